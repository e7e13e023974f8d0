//! What `--help` teaches, and the exit codes.

/// It was tried and failed.
pub const EXIT_FAILED: u8 = 1;

/// `status`: no failover would work now; `health-check`: not every server
/// accepts connections.
pub const EXIT_NO: u8 = 3;

/// `status`: it cannot be known.
pub const EXIT_UNKNOWN: u8 = 4;

/// The command line was not understood (Python's argparse has the same).
pub const EXIT_USAGE: u8 = 2;

/// The configuration is refused (EX_CONFIG): trying again is of no use, which a
/// service manager can be told (`RestartPreventExitStatus=78`).
pub const EXIT_CONFIG: u8 = 78;

/// The help of the program under its name.
pub fn text(as_controller: bool) -> &'static str {
    if as_controller { CONTROLLER } else { WITNESS }
}

/// The line of `--version`.
pub fn version(as_controller: bool) -> String {
    let version = env!("CARGO_PKG_VERSION");
    if as_controller {
        format!("patroni_raft_controller (pg-witness {version})\n")
    } else {
        format!("pg-witness {version}\n")
    }
}

const WITNESS: &str = "\
pg-witness: the third vote of a two-node PostgreSQL cluster run by Patroni.

usage: pg-witness [run] [FILE]              serve; without FILE see below
       pg-witness check-config [FILE]       print what is in effect, or what is wrong
       pg-witness adopt --accept-loss CLUSTER
                                            vote again although the state was lost and
                                            a data node is down: writes that only the
                                            lost state held are given up
       pg-witness reset CLUSTER             set a cluster's state aside, begin anew
       pg-witness status                    would a failover work now? exit 0 if so
       pg-witness topology | members        who is who, and where
       pg-witness health-check              probe every PostgreSQL server now
       pg-witness alive                     exit 0 if the running witness makes progress
       pg-witness diagnose [FILE]           write a bundle without secrets, for support
       pg-witness raft ...                  ask any Raft node; see pg-witness raft --help

options:  -c, --config FILE   the configuration, for any command
          --json, --watch     of status and its kin: as JSON; again and again
          --cluster NAME      likewise: of one cluster
          --url URL           likewise: where the witness is asked (--token-file FILE)
          -h, --help          this text
          -V, --version       the version

FILE is Patroni's own YAML (its raft: section is read) or JSON:

    {\"data_dir\": \"/var/lib/pg-witness\",
     \"clusters\": [{\"name\": \"main\",
                   \"self_addr\": \"10.0.0.9:2222\",
                   \"partner_addrs\": [\"10.0.0.1:2222\", \"10.0.0.2:2222\"],
                   \"password_file\": \"/etc/pg-witness/main.password\"}]}

Without FILE: PATRONI_CONFIGURATION, else PATRONI_RAFT_SELF_ADDR and its kin, else
/etc/pg-witness/config if it exists, else a demo cluster on 127.0.0.1:2222, but not in a
container or a service. This holds for every command. PATRONI_RAFT_* also go over a FILE
with one cluster. With /etc/pg-witness/config, variables that are not set are taken from
/etc/pg-witness/environment, as its service has them.

examples:
    pg-witness check-config /etc/patroni/patroni.yml
    pg-witness run /etc/patroni/patroni.yml
    PATRONI_RAFT_SELF_ADDR=10.0.0.9:2222 PATRONI_RAFT_DATA_DIR=/var/lib/pg-witness \\
    PATRONI_RAFT_PARTNER_ADDRS=10.0.0.1:2222,10.0.0.2:2222 pg-witness

exit codes: 0 done, or stopped by a signal; 1 failed; 2 the command line is wrong;
            3 status: no failover would work; 4 status: that cannot be known;
            78 the configuration is refused (starting again would not help)
";

/// The help of `pg-witness raft`.
pub const RAFT: &str = "\
pg-witness raft: ask any Raft node of Patroni's, Python's or ours, as syncobj_admin does.

usage: pg-witness raft status HOST:PORT             how the node is
       pg-witness raft members HOST:PORT            who is in the group, as it sees it
       pg-witness raft add HOST:PORT MEMBER         add MEMBER, by way of HOST:PORT
       pg-witness raft remove HOST:PORT MEMBER      remove MEMBER; ask another than itself
       pg-witness raft transfer HOST:PORT [MEMBER]  have the leader HOST:PORT hand over, to
                                                    MEMBER or to whom it chooses (it and
                                                    MEMBER need pysyncobj 0.3.16)

options:  --json                  one JSON object
          --password-file FILE    the group's password
          -c, --config FILE       or: the configuration of a cluster with that node, whose
                                  password is taken; else PATRONI_RAFT_PASSWORD, else
                                  the cluster with that node in /etc/pg-witness/config,
                          with the variables in /etc/pg-witness/environment
          -h, --help              this text

Only for nodes of Patroni: another PySyncObj program ends when asked for its members.

exit codes: 0 done; 1 refused, or no reply; 2 the command line is wrong; 78 the
            configuration is refused
";

const CONTROLLER: &str = "\
usage: patroni_raft_controller [-h] [--version] [configfile]

pg-witness in the place of Patroni's controller: the third vote of a cluster.

    configfile   Patroni's YAML, or a folder of such files; Patroni may also read the
                 configuration from PATRONI_CONFIGURATION or from PATRONI_RAFT_*
    -h, --help   this text
    --version    the version

exit codes: 0 done, or stopped by a signal; 1 failed; 2 the command line is wrong;
            78 the configuration is refused (starting again would not help)
";
