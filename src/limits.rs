//! Every cap in one place (S10): what a peer, a disk or an operator can make
//! this program hold, in bytes, counts or time. A cap that is reached is a
//! counted, logged refusal, never a panic and never silent growth.

use std::time::Duration;

/// Largest frame body accepted from a peer, in bytes (spec 2.1). PySyncObj cuts
/// what it sends into pieces of 64 KiB, and a whole Patroni store takes less; one
/// frame costs some six times its size while it is taken in, on a board of 512 MB.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// Largest zlib or gzip plaintext accepted, in bytes: the guard against
/// compression bombs (H28).
pub const INFLATED_BYTES_MAX: usize = FRAME_BYTES_MAX;

/// Deepest nesting of containers in a pickle.
pub const PICKLE_DEPTH_MAX: usize = 64;

/// Deepest nesting in a snapshot: there a value stands one level deeper than in
/// the command that set it.
pub const SNAPSHOT_DEPTH_MAX: usize = PICKLE_DEPTH_MAX + 1;

/// Applied log entries kept in memory for peers that lag; a peer that needs
/// older ones gets a snapshot.
pub const LOG_ENTRIES_KEPT: u64 = 256;

/// Log entries in memory at which the applied ones are forgotten.
pub const LOG_ENTRIES_MAX: usize = 1024;

/// Commands that may wait for the first commit of a leadership of ours, and the
/// bytes that they may come to. Patroni has a handful under way.
pub const PROPOSALS_WAITING_MAX: usize = 256;

/// See [`PROPOSALS_WAITING_MAX`].
pub const PROPOSALS_WAITING_BYTES_MAX: usize = 4 << 20;

/// Bytes of commands that a leader holds twice, to judge proposals by, before it
/// takes its copy of the store anew; a copy costs time by the number of keys.
pub const TAIL_BYTES_MAX: usize = 1 << 20;

/// Requests that may wait in the engine's queue.
pub const ENGINE_REQUESTS_MAX: u64 = 256;

/// How far a peer's term may be ahead of ours, or of what the other members have
/// shown. A node that cannot win stands for election every 0.4 to 1.4 seconds:
/// two years of that, without any leader, come to this. One message must not
/// bring the terms to their end, after which nobody could be elected any more;
/// in steps of this size, each written to disk, it takes decades.
pub const TERM_JUMP_MAX: u64 = 1 << 26;

/// Bytes read from a socket at once.
pub const READ_BYTES: usize = 16 << 10;

/// Most bytes that may wait for a peer that reads slowly; beyond it the
/// connection is closed. Larger than a frame, so that one always fits.
pub const OUTBOX_BYTES_MAX: usize = FRAME_BYTES_MAX + (1 << 20);

/// Longest that a write may wait for a peer that does not read.
pub const WRITE_TIME_MAX: Duration = Duration::from_secs(10);

/// Buffers that grew beyond this are given back.
pub const BUFFER_BYTES_KEPT: usize = 64 << 10;

/// Longest that connecting to a peer may take (H22).
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);

/// How long a witness may have no vote before it says why and what can be done:
/// one without state waits, in a healthy cluster, one `loop_wait` of Patroni's.
pub const SILENCE_PATIENCE: Duration = Duration::from_secs(30);

/// How often it says so again.
pub const SILENCE_REMINDER: Duration = Duration::from_secs(600);

/// How long the only member that can be reached, if it has forgotten everything,
/// is not taught what we hold: another may come and have forgotten as well. Longer
/// than two nodes take that are started together.
pub const ORPHANED_PATIENCE: Duration = Duration::from_secs(10);

/// How long the hosts of all silent members must refuse connections before the
/// others found a new cluster (S7 b): longer than a node takes to restart.
pub const FOUNDING_REFUSED_FOR: Duration = Duration::from_secs(30);

/// How often to look whether `self_addr` still leads to this machine.
pub const SELF_ADDR_PERIOD: Duration = Duration::from_secs(60);

/// Longest that an accepted connection may take to say who it is.
pub const HELLO_TIME_MAX: Duration = Duration::from_secs(10);

/// Connections that have not said yet who they are; one more evicts the oldest.
pub const PENDING_CONNECTIONS_MAX: usize = 64;

/// Read-only clients (patronictl) served at once; one more evicts the oldest.
pub const READ_ONLY_MAX: usize = 32;

/// Shortest mean time between two connections that one cluster accepts, in the
/// long run. The others wait in the kernel's queue: to accept one costs a small
/// board most of a millisecond, whatever it says.
pub const ACCEPT_PERIOD: Duration = Duration::from_millis(10);

/// Connections that are accepted at once.
pub const ACCEPT_BURST: u32 = 64;

/// A part of one core's time (S16).
#[derive(Debug, Clone, Copy)]
pub struct CpuShare {
    /// Thousandths of the core in the long run; at least 1.
    pub per_mille: u32,
    /// CPU time that may be used beyond that before there is a pause.
    pub burst: Duration,
    /// Longest pause.
    pub pause_max: Duration,
}

/// CPU time of all connections together that have not said who they are. With
/// what read-only clients may use it leaves a core that is held to a quarter, as
/// containers are, the greater part for the group itself.
pub const ALL_PENDING_CPU: CpuShare = CpuShare {
    per_mille: 50,
    burst: Duration::from_millis(100),
    pause_max: Duration::from_secs(10),
};

/// CPU time of one of them. A hello or a question costs a small board about a
/// millisecond.
pub const PENDING_CPU: CpuShare = CpuShare {
    per_mille: 10,
    burst: Duration::from_millis(20),
    pause_max: Duration::from_secs(10),
};

/// CPU time that one of them may owe and still be heard when the others have used
/// up [`ALL_PENDING_CPU`]: it may be a member that is about to say so.
pub const PENDING_CPU_FREE: Duration = Duration::from_millis(1);

/// CPU time of all read-only clients together.
pub const ALL_READ_ONLY_CPU: CpuShare = CpuShare {
    per_mille: 50,
    burst: Duration::from_millis(200),
    pause_max: Duration::from_secs(10),
};

/// CPU time of one of them.
pub const READ_ONLY_CPU: CpuShare = CpuShare {
    per_mille: 25,
    burst: Duration::from_millis(100),
    pause_max: Duration::from_secs(10),
};

/// CPU time of one member, over all its connections: a snapshot of 16 MiB costs a
/// small board two seconds, and all else of a busy cluster a few per cent.
pub const MEMBER_CPU: CpuShare = CpuShare {
    per_mille: 500,
    burst: Duration::from_secs(5),
    pause_max: Duration::from_secs(1),
};

/// Memory that all connections together may hold, in bytes, which are no
/// members': for what is half received or not yet sent. One may have a quarter.
pub const OTHERS_MEMORY_BYTES: usize = 16 << 20;

/// The same of all members: two snapshots of the greatest size at once.
pub const MEMBERS_MEMORY_BYTES: usize = 32 << 20;

/// What each member may hold when [`MEMBERS_MEMORY_BYTES`] are used up: the usual
/// appends, heartbeats and votes take less.
pub const MEMBER_MEMORY_BYTES_RESERVED: usize = 1 << 20;

/// Bytes that wait for a peer that does not read, at which nothing more is read
/// from it. Members are read on: their answers are what makes room.
pub const UNSENT_BYTES_MAX: usize = 64 << 10;

/// Longest that a message may take to arrive whole from whom is no member.
pub const MESSAGE_TIME_MAX: Duration = Duration::from_secs(10);

/// Members of one cluster.
pub const MEMBERS_MAX: usize = 64;

/// Answers to appends that may wait for the disk on one connection.
pub const ANSWERS_WAITING_MAX: usize = 256;

/// How long a link may stay silent before a keepalive is sent. PySyncObj drops
/// it unread after 3.5 s (H11).
pub const KEEPALIVE: Duration = Duration::from_secs(1);

/// How long a peer's machine may leave what we send unacknowledged. One that lost
/// its power is then known to be gone, and dialled anew; the kernel alone would try
/// on for a quarter of an hour, at the end every two minutes.
pub const LINK_LOSS_TIME: Duration = Duration::from_secs(10);

/// Longest that a utility connection may stay open.
pub const UTILITY_TIME_MAX: Duration = Duration::from_secs(60);

/// How long a hello from an address that is no member waits for its `add` to
/// arrive (spec 10).
pub const PARKED_HELLO_TIME: Duration = Duration::from_secs(4);

/// Unknown nodes that are asked for their group at once: a hello may name any address.
pub const NEWCOMERS_ASKED_MAX: usize = 4;

/// Longest pause between two attempts to dial a peer.
pub const REDIAL_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Longest that a peer's `status` is waited for.
pub const STATUS_TIME_MAX: Duration = Duration::from_secs(2);

/// Longest that a change of the members may take until it is applied.
pub const MEMBERSHIP_TIME_MAX: Duration = Duration::from_secs(12);

/// Pause between attempts to open a disk that fails.
pub const REBUILD_PAUSE: Duration = Duration::from_secs(1);

/// Most values one pickle may push or hold once its shared parts are written
/// out: the guard against pickles that multiply themselves. A value costs about
/// 100 bytes while it is decoded; a Patroni cluster's snapshot has some hundred.
pub const PICKLE_VALUES_MAX: usize = 1 << 19;

/// Most bytes of text and `bytes` one pickle may hold once its shared parts are
/// written out.
pub const PICKLE_BYTES_MAX: usize = INFLATED_BYTES_MAX;

/// Most memo slots of one pickle.
pub const PICKLE_MEMO_MAX: usize = 1 << 19;

/// Widest `int` of a pickle, in bytes of two's complement. PySyncObj's fit 8.
pub const PICKLE_INT_BYTES_MAX: usize = 256;

/// Largest frame body, and largest plaintext, of a connection that has not said
/// who it is: a hello or a utility request is a few hundred bytes.
pub const HELLO_BYTES_MAX: usize = 16 << 10;

/// Most values in one message of such a connection; a vote request that comes
/// before the keys are exchanged has eight.
pub const HELLO_VALUES_MAX: usize = 256;

/// Largest frame body, and largest plaintext, of a read-only client: a command
/// with one value of Patroni's, the longest of which take some ten kilobytes.
pub const READ_ONLY_BYTES_MAX: usize = 256 << 10;

/// Most values in one message of a read-only client, which has eight; what is in
/// the command is a pickle of its own.
pub const READ_ONLY_VALUES_MAX: usize = 256;

/// Buffers of a codec or a connection that grew beyond this are given back when
/// they are empty again.
pub const KEPT_BUFFER_BYTES_MAX: usize = 64 << 10;

/// Most entries one message, snapshot or journal may carry.
pub const ENTRIES_MAX: usize = 1 << 18;

/// Size of a log segment as it is reserved, in bytes. Two exist per cluster: the
/// live one and the spare into which the next checkpoint goes. Three quarters
/// full, a segment asks for its checkpoint.
pub const DISK_SEGMENT_BYTES: u64 = 1 << 20;

/// Largest segment accepted or grown to, in bytes; recovery holds one of them in
/// memory.
pub const DISK_SEGMENT_BYTES_MAX: u64 = 128 << 20;

/// Largest frame of the log, in bytes: what one `append` or one checkpoint may come
/// to. Above any frame a peer can send, and above a checkpoint of the greatest state
/// with its two last commands.
pub const DISK_FRAME_BYTES_MAX: usize = 72 << 20;

/// How much of a cluster's queue one round of the disk thread takes, in bytes;
/// a single larger operation goes alone.
pub const DISK_ROUND_BYTES: usize = 4 << 20;

/// Most bytes that may wait for the disk thread in one cluster's queue; beyond
/// it operations are refused.
pub const DISK_QUEUE_BYTES_MAX: usize = 128 << 20;

/// Largest configuration file or variable, in bytes; Patroni's take a few
/// thousand.
pub const CONFIG_BYTES_MAX: usize = 256 << 10;

/// Deepest nesting of a configuration, aliases included.
pub const CONFIG_DEPTH_MAX: usize = 64;

/// Values plus bytes of text that YAML anchors may copy: the guard against
/// aliases that multiply themselves.
pub const CONFIG_COPIED_MAX: usize = 256 << 10;

/// Most files read from a configuration folder.
pub const CONFIG_FILES_MAX: usize = 64;

/// Most clusters one process serves.
pub const CLUSTERS_MAX: usize = 1024;

/// Most partners of one cluster.
pub const PARTNERS_MAX: usize = 64;

/// Longest cluster name, in bytes.
pub const CLUSTER_NAME_BYTES_MAX: usize = 64;

/// Passwords of one cluster accepted at once, while they are being changed.
pub const PASSWORDS_MAX: usize = 4;

/// Largest password file, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 4096;

/// Longest time that may be configured, in seconds: a day.
pub const SECONDS_MAX: f64 = 86_400.0;

/// Longest step of the clock between two of our own ticks that counts towards
/// the age of a key (S8): a process that was stopped, or a board that stalled,
/// has not heard the refreshes that came meanwhile.
pub const TICK_GAP_MAX: std::time::Duration = std::time::Duration::from_secs(1);

/// Key-value state above this many bytes, as [`kv::Store::bytes`] counts them, is
/// worth a warning in `status`: Patroni's own takes some ten thousand.
///
/// [`kv::Store::bytes`]: crate::kv::Store::bytes
pub const KV_BYTES_WARN: u64 = 2 << 20;

/// The quota of the key-value state, in bytes: as leader we refuse what would make
/// it grow beyond. So a snapshot of ours is always within what a member takes in.
pub const KV_BYTES_QUOTA: u64 = 5 << 20;

/// The same with what expires by itself: a store that somebody has filled must not
/// keep a standby from taking the leader key. We vote for nobody while the state is
/// beyond this, because another leader let it grow.
pub const KV_BYTES_QUOTA_EXPIRING: u64 = KV_BYTES_QUOTA + (64 << 10);

/// What may use the difference: keys that live no longer, and take no more bytes,
/// than any leader key or member key of Patroni.
pub const KV_EXPIRING_TIME_MAX: Duration = Duration::from_secs(3_600);

/// See [`KV_EXPIRING_TIME_MAX`].
pub const KV_EXPIRING_BYTES_MAX: u64 = 4 << 10;

/// The most key-value state that we hold, in bytes, with the commands that wait to
/// be applied: beyond it, which only another leader can bring about, no entry is
/// stored until a snapshot brings a smaller state. Its checkpoint fits one frame.
pub const KV_BYTES_MAX: u64 = 32 << 20;

/// How often the leader is asked for a snapshot while the state is beyond that.
pub const KV_FULL_PAUSE: Duration = Duration::from_secs(60);

/// Largest command that we append as leader, in bytes. Patroni's largest, a cluster's
/// dynamic configuration or history, take some thousand.
pub const PROPOSAL_BYTES_MAX: usize = 4 << 20;

/// Commands in one append, in bytes; the entry that crosses it is included, as
/// in Python's `appendEntriesBatchSizeBytes` (spec 5.5).
pub const APPEND_BATCH_BYTES: usize = 64 << 10;

/// Most entries in one append: bounds the frame when commands are tiny.
pub const APPEND_BATCH_ENTRIES: usize = 1024;

/// Most appends to one peer that wait for their reply; at the cap no heartbeat
/// is sent until the peer reads again or its reply timeout closes the link.
pub const UNANSWERED_APPENDS_MAX: usize = 64;

/// One chunk of a snapshot in transfer, in bytes: Python's own size (spec 3.5).
pub const SNAPSHOT_CHUNK_BYTES: usize = 64 << 10;

/// Bytes of a snapshot that may be queued to one peer before its connection
/// reports that it takes more.
pub const SNAPSHOT_WINDOW_BYTES: usize = 256 << 10;

/// How long a vote request waits for the status of a peer that has just
/// connected.
pub const ACQUAINTANCE_TIME: Duration = Duration::from_millis(300);

/// How long a campaign waits for what the peers say of a leader.
pub const PRE_VOTE_TIME_MAX: Duration = Duration::from_secs(1);

/// How long a leader that only others hear is respected while it commits nothing.
/// An idle Patroni commits once in `loop_wait`, ten seconds by default.
pub const ELSEWHERE_PATIENCE: Duration = Duration::from_secs(15);

/// How long nothing may come on a link that we made to a member which leads, by its own
/// word, and sends heartbeats ten times a second: it has another connection for ours.
pub const LEADER_SILENCE_MAX: Duration = Duration::from_secs(5);

/// How long a voter may hear a leader and accept nothing of it. Longer than a
/// sync that dawdles and a snapshot that is sent.
pub const STALL_TIME: Duration = Duration::from_secs(15);

/// How long peers that forgot their terms at a restart are left to find a leader
/// of their own (S13): some rounds of theirs, and what is promised for ours.
pub const FORGETFUL_PEER_TIME: Duration = Duration::from_secs(5);
/// Longest `conn_url` of a member that is read, in bytes.
pub const CONN_URL_BYTES_MAX: usize = 2048;

/// Most hosts of one `conn_url`.
pub const CONN_URL_HOSTS_MAX: usize = 8;

/// Longest name of a host, in bytes: DNS' own, and room for an IPv6 zone.
pub const HOST_BYTES_MAX: usize = 255;

/// Most PostgreSQL servers that one process probes.
pub const PROBE_SERVERS_MAX: usize = 4096;

/// Most PostgreSQL servers that one cluster's store may name.
pub const PROBE_MEMBERS_MAX: usize = 256;

/// Most probes that run at once: they bound the sockets and the memory. So many
/// that a hundred silent servers are still asked in turn.
pub const PROBES_AT_ONCE: usize = 32;

/// Most names that are resolved at once for probes: each takes a thread until
/// the system's resolver gives up.
pub const RESOLUTIONS_AT_ONCE: usize = 4;

/// Most addresses of one name that are tried.
pub const PROBE_ADDRESSES_MAX: usize = 8;

/// Largest message of a PostgreSQL server that is read, in bytes; its errors are
/// some hundred.
pub const PG_MESSAGE_BYTES_MAX: usize = 8 << 10;

/// Most bytes read from a PostgreSQL server in one probe.
pub const PG_PROBE_BYTES_MAX: usize = 64 << 10;

/// Most bytes kept of one text of a PostgreSQL server.
pub const PG_TEXT_BYTES_MAX: usize = 256;

/// Longest that a server may take to hang up after we have said goodbye.
pub const PG_FAREWELL_TIME_MAX: Duration = Duration::from_secs(1);

/// Most failures in a row that may be asked for before a server is unhealthy.
pub const PROBE_TRIES_MAX: u32 = 100;

/// Name or time servers in one list, and addresses taken of one DHCP option.
pub const SERVERS_MAX: usize = 8;

/// Sentences about the machine, on a card.
pub const NOTES_MAX: usize = 16;

/// Longest of them, in characters.
pub const NOTE_CHARS_MAX: usize = 400;

/// Events of PID 1 that are shown among the witness's, of which they are half at most.
pub const BOARD_EVENTS_MAX: usize = EVENTS_MAX / 2;

/// Lines that may wait for a slow console, and the longest of them, in bytes.
pub const CONSOLE_LINES_MAX: usize = 256;

/// See [`CONSOLE_LINES_MAX`].
pub const CONSOLE_LINE_BYTES_MAX: usize = 1024;

/// Longest name of a zone, in bytes.
pub const ZONE_BYTES_MAX: usize = 64;
/// How often a cluster's engine is asked whether it is there.
pub const PULSE_PERIOD: Duration = Duration::from_secs(5);

/// How long an engine, or a supervisor without one, may show no progress until
/// its cluster counts as stopped. Longer than any pause of a worn SD card.
pub const ENGINE_SILENCE_MAX: Duration = Duration::from_secs(20);

/// How long a process with a stopped cluster waits for whoever watches it; then
/// it ends by itself, for not everybody is watched.
pub const LAST_RESORT: Duration = Duration::from_secs(30);
/// Longest value of Patroni's that the status looks into, in bytes; its own
/// largest, the dynamic configuration, takes a few thousand.
pub const STATUS_JSON_BYTES_MAX: usize = 64 << 10;

/// Deepest nesting in such a value.
pub const STATUS_JSON_DEPTH_MAX: usize = 32;

/// Most fields of an object in such a value; Patroni's have some dozen.
pub const STATUS_JSON_FIELDS_MAX: usize = 1024;

/// How old what a peer told of itself may be before whoever looks has it asked
/// again.
pub const TOLD_FRESH: Duration = Duration::from_secs(5);

/// The same while no leader is heard of.
pub const TOLD_FRESH_LEADERLESS: Duration = Duration::from_secs(1);

/// How long whoever looks waits for that; a peer that takes longer is shown as
/// silent.
pub const TOLD_TIME_MAX: Duration = Duration::from_millis(1400);

/// First and largest size of the buffer into which one piece of JSON goes, in
/// bytes: a cluster of [`STATUS_SCOPES_MAX`] full scopes.
pub const JSON_BYTES_FIRST: usize = 4 << 10;

/// See [`JSON_BYTES_FIRST`].
pub const JSON_BYTES_MAX: usize = 2 << 20;

/// Lines of the log that are kept in memory.
pub const EVENTS_MAX: usize = 100;

/// Longest of them, in characters.
pub const EVENT_CHARS_MAX: usize = 240;

/// How long a kind of line must not have been due to be news again.
pub const TALLY_QUIET: Duration = Duration::from_secs(600);

/// Lines of one kind that members may cause until only the 32nd, 64th ... is
/// said: more than a day of failovers has.
pub const TALLY_MEMBER_LINES: u64 = 20;

/// How long a link that nobody has proven must last to count as one: a peer with
/// another password ends it at once.
pub const LINK_PROOF_TIME: Duration = Duration::from_secs(1);

/// Networks in one list of those that may reach the Raft port.
pub const NETWORKS_MAX: usize = 64;

/// HTTP connections at once; one more evicts the oldest that is not being
/// answered.
pub const HTTP_CONNECTIONS_MAX: usize = 64;

/// HTTP requests answered at once; one more is refused.
pub const HTTP_ANSWERS_MAX: usize = 16;

/// The same for `/readyz`, which has slots of its own.
pub const HTTP_HEALTH_ANSWERS_MAX: usize = 8;

/// Largest head of an HTTP request, in bytes: a browser sends to the loopback
/// the cookies of everything else there.
pub const HTTP_HEAD_BYTES_MAX: usize = 8 << 10;

/// Most headers of an HTTP request.
pub const HTTP_HEADERS_MAX: usize = 48;

/// Longest that the head of an HTTP request may take to arrive.
pub const HTTP_HEAD_TIME_MAX: Duration = Duration::from_secs(5);

/// Longest that an HTTP answer may take, a health check's probes included.
pub const HTTP_ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// How long a closed HTTP connection may go on sending.
pub const HTTP_LINGER_MAX: Duration = Duration::from_secs(1);

/// Bytes of an HTTP answer that are collected before they are sent.
pub const HTTP_PART_BYTES: usize = 16 << 10;

/// PostgreSQL clusters shown of one Raft group.
pub const STATUS_SCOPES_MAX: usize = 16;

/// PostgreSQL members shown of one of them.
pub const STATUS_MEMBERS_MAX: usize = 32;

/// How long a PostgreSQL server is still shown whose key is gone.
pub const GONE_SERVER_TIME: Duration = Duration::from_secs(3600);

/// How long after a failover the former primary may take to come back as a
/// replica before the answer to "would a failover work?" is a plain no.
pub const FAILED_OVER_TIME: Duration = Duration::from_secs(300);

/// How long it is shown that somebody sent an unreadable message while a member is
/// not connected.
pub const UNREADABLE_NEWS_TIME: Duration = Duration::from_secs(60);

/// Leader keys that were freed and not looked at yet.
pub const LEADERS_FREED_MAX: usize = 64;

/// Longest text of somebody else's that is shown, in characters.
pub const STATUS_TEXT_MAX: usize = 128;
