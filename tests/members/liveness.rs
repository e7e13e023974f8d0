//! Whether a cluster makes progress is told apart from whether it is well: the
//! watchdog must not start a witness again in the middle of a failover, and must
//! when its engine stands still.

use std::io::Read as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pg_witness::limits;
use pg_witness::member::liveness::Vitals;
use pg_witness::reactor::Instant;

use crate::fake::{id, noop};
use crate::rig::{Rig, addresses, run, until};
use crate::storage::following;

#[test]
fn only_an_engine_that_stands_still_is_not_alive() {
    run(async {
        let rig = Rig::new();
        let (stopped, ..) = following(&rig, &addresses(), false).await;
        // S7: its state is lost, and nobody is there who could mend it.
        let [alone, nobody] = addresses();
        let alone = rig.start(rig.config(&alone, &[&nobody])).await;
        // S14: its disk is full, and its engine cannot be built anew.
        let here = addresses();
        let (diskless, leader, _other) = following(&rig, &here, false).await;
        rig.faults.fill(&rig.config(&here[0], &[]).data_dir);
        leader.append(1, id(2, 1), &[noop(3, 1)], 2);
        until("the failure in the log", async || {
            !diskless.logged("no vote (disk-unusable)").is_empty()
        })
        .await;

        let vitals = Vitals::default();
        for witness in [&stopped, &alone, &diskless] {
            vitals.watch(witness.member.pulse());
        }
        stopped.member.stop_engine_tasks();
        for _ in 0..2 {
            vitals.pass(limits::ENGINE_SILENCE_MAX);
            until("life in all but one", async || {
                vitals.silent() == [stopped.member.name.clone()]
            })
            .await;
        }
    });
}

/// pg-witness under a service manager that this test plays.
struct Managed {
    socket: UnixDatagram,
    child: Child,
}

/// What the manager asks for: a sign of life at least this often.
const WATCHDOG: Duration = Duration::from_secs(4);

impl Managed {
    fn start(folder: &Path, stop_engines_after_ms: Option<u64>) -> Self {
        let path = folder.join("notify");
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(WATCHDOG)).unwrap();
        let [me, partner] = addresses();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pg-witness"));
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
            .env("PATRONI_RAFT_SELF_ADDR", me.to_string())
            .env("PATRONI_RAFT_BIND_ADDR", me.to_string())
            .env("PATRONI_RAFT_PARTNER_ADDRS", partner.to_string())
            .env("PATRONI_RAFT_DATA_DIR", folder.join("data"))
            .stderr(Stdio::piped());
        if let Some(after) = stop_engines_after_ms {
            command.env("PG_WITNESS_STOP_ENGINES_AFTER_MS", after.to_string());
        }
        let child = command.spawn().unwrap();
        Self { socket, child }
    }

    /// Waits for the next word; none if there is none in the manager's patience.
    fn hears(&self) -> Option<String> {
        let mut buffer = [0; 200];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    /// What it says until it is silent for longer than the manager waits.
    fn signs_of_life(&self) -> usize {
        std::iter::from_fn(|| self.hears())
            .inspect(|word| assert_eq!(word, "WATCHDOG=1"))
            .count()
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_engine_that_stands_still_ends_in_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut hung = Managed::start(folder.path(), Some(1_000));
    let began = Instant::now();
    assert_eq!(hung.hears().as_deref(), Some("READY=1"));
    // Twice as often as asked for, as long as the silence is none yet.
    let signs = hung.signs_of_life();
    assert!((8..=18).contains(&signs), "{signs} signs of life");
    assert!(began.elapsed() > limits::ENGINE_SILENCE_MAX);

    // A manager would have ended it; where there is none, it does so itself.
    let status = hung.child.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    let mut said = String::new();
    hung.child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(said.contains("no progress for 20 s in "), "{said}");

    let again = Managed::start(folder.path(), None);
    assert_eq!(again.hears().as_deref(), Some("READY=1"));
    for _ in 0..3 {
        assert_eq!(again.hears().as_deref(), Some("WATCHDOG=1"));
    }
}
