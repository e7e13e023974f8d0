//! S9, S10: whatever comes in, the member lives, and its other links too.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::config::ClusterConfig;
use pg_witness::ids::{Entry, Term};
use pg_witness::limits;
use pg_witness::reactor::{self, Instant};
use pg_witness::wire::message::{
    Append, AppendBody, ApplyError, ApplyOutcome, FragmentPart, Hello, Message, NextNodeIdx,
    SnapshotChunk,
};
use pg_witness::wire::snapshot::Snapshot;
use pg_witness::wire::utility::{NodeState, UtilityRequest};
use pg_witness::wire::value::Str;
use pg_witness::wire::{Key, Value, command};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::TcpStream;

use crate::amnesia::lived;
use crate::fake::{Fake, id, index, noop, set, term};
use crate::quorum::{leading, leading_with};
use crate::rig::{LIMIT, Rig, Running, addresses, during, in_time, run, until};

/// A witness and the two other members, linked.
pub async fn linked(rig: &Rig, [w, a, b]: &[Address; 3]) -> (Running, Rc<Fake>, Rc<Fake>) {
    let all = [w, a, b];
    let (first, second) = (Fake::listen(a, &all).await, Fake::listen(b, &all).await);
    let witness = rig.start(rig.voter(w, &[a, b])).await;
    first.dial(w).await;
    second.dial(w).await;
    (witness, first, second)
}

async fn raw(member: &Running) -> TcpStream {
    TcpStream::connect((member.address.host(), member.address.port()))
        .await
        .unwrap()
}

/// Waits until the other side closes; what it said before is dropped.
async fn closed(stream: &mut TcpStream) {
    in_time("being hung up on", async {
        let mut buffer = [0; 1024];
        while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    })
    .await;
}

/// It leads, follows and answers as if nothing had been.
async fn lives(witness: &Running, a: &Rc<Fake>) {
    witness.shows("itself", |_| true).await;
    if !a.is_linked() {
        a.dial(&witness.address).await;
    }
    until("a vote", async || {
        // Anew each time: the witness may stand for election itself meanwhile.
        let above = witness.status().await.unwrap().raft_term.get() + 1;
        a.ask_vote(above, id(1 << 40, above));
        pg_witness::reactor::Timer::after(Duration::from_millis(100)).await;
        let voted = |m: &Message| matches!(m, Message::ResponseVote { .. });
        if !a.is_linked() {
            a.dial(&witness.address).await;
        }
        a.drain().iter().any(voted)
    })
    .await;
}

/// `a` leads, and its first entry is acknowledged.
async fn appended(witness: &Running, a: &Fake, entry: &Entry) {
    until("success", async || {
        // Anew each time: on a busy machine the witness has stood for election meanwhile.
        let term = witness.status().await.unwrap().raft_term.get();
        a.append(term, id(1, 0), std::slice::from_ref(entry), 1);
        pg_witness::reactor::Timer::after(Duration::from_millis(50)).await;
        let done = |m: &Message| matches!(m, Message::NextNodeIdx(reply) if reply.success);
        a.drain().iter().any(done)
    })
    .await;
}

#[test]
fn bytes_that_are_no_hello() {
    run(async {
        let rig = Rig::new();
        let (witness, a, _b) = linked(&rig, &addresses()).await;
        let links = a.links.get();
        let mut rng = SmallRng::seed_from_u64(1);
        for round in 0..50_usize {
            let mut stream = raw(&witness).await;
            let mut bytes = vec![0; 1 + round * 7];
            rng.fill(&mut bytes[..]);
            if round % 2 == 0 {
                // A frame that is whole, of nonsense.
                let length = u32::try_from(bytes.len()).unwrap();
                bytes.splice(0..0, length.to_be_bytes());
            }
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown(std::net::Shutdown::Write);
            closed(&mut stream).await;
        }
        let lines = witness.logged("unreadable message").len();
        assert!((1..=7).contains(&lines), "{lines} lines");
        assert_eq!(a.links.get(), links);
        lives(&witness, &a).await;
    });
}

#[test]
fn frames_that_are_too_large() {
    run(async {
        let rig = Rig::new();
        let (witness, a, _b) = linked(&rig, &addresses()).await;
        for length in [u32::MAX, i32::MAX as u32, 1 << 27, 17 << 10] {
            let mut stream = raw(&witness).await;
            stream.write_all(&length.to_be_bytes()).await.unwrap();
            closed(&mut stream).await;
        }
        lives(&witness, &a).await;
    });
}

#[test]
fn a_crowd_that_says_nothing() {
    // S10: the cap holds, established links live, and the crowd is shown out, the
    // oldest first, so that it keeps nobody out.
    run(async {
        let rig = Rig::new();
        let (witness, a, _b) = linked(&rig, &addresses()).await;
        let links = a.links.get();
        let begun = Instant::now();
        let mut crowd = Vec::new();
        for _ in 0..limits::PENDING_CONNECTIONS_MAX + 16 {
            crowd.push(raw(&witness).await);
        }
        for first in crowd.drain(..16) {
            closed(&mut { first }).await;
        }
        assert!(begun.elapsed() < limits::HELLO_TIME_MAX);
        assert!(!witness.logged("too many connections").is_empty());
        // Who comes now is heard, and a member is served as before.
        witness.shows("itself", |_| true).await;
        appended(&witness, &a, &noop(2, 1)).await;
        assert!(begun.elapsed() < limits::HELLO_TIME_MAX);
        for mut stream in crowd {
            closed(&mut stream).await;
        }
        witness.shows("itself", |_| true).await;
        assert_eq!(a.links.get(), links);
    });
}

#[test]
fn a_newcomer_that_is_shown_out_while_it_waits() {
    // S10: its hello waits for its `add` when a crowd comes; then the `add`
    // arrives. Nothing is taken for a link that is none.
    run(async {
        let rig = Rig::new();
        let mut all = addresses();
        // The greater dials: here it is the newcomer.
        all.sort();
        let [w, a, b, new] = all;
        let (witness, a, _b) = linked(&rig, &[w, a, b]).await;
        let newcomer = Fake::listen(&new, &[&new]).await;
        newcomer.dial(&witness.address).await;
        let mut crowd = Vec::new();
        for _ in 0..limits::PENDING_CONNECTIONS_MAX {
            crowd.push(raw(&witness).await);
        }
        until("the newcomer out", async || {
            pg_witness::reactor::Timer::after(Duration::from_millis(20)).await;
            !newcomer.is_linked()
        })
        .await;
        let connected = format!("{new} connected");
        let add = Entry {
            command: command::membership(true, &new),
            ..noop(2, 1)
        };
        appended(&witness, &a, &add).await;
        witness.shows("itself", |_| true).await;
        assert!(witness.logged(&connected).is_empty());
        newcomer.dial(&witness.address).await;
        until("the newcomer in", async || {
            pg_witness::reactor::Timer::after(Duration::from_millis(20)).await;
            !witness.logged(&connected).is_empty()
        })
        .await;
    });
}

#[test]
fn who_is_in_no_network_of_allow_from_is_not_even_heard() {
    run(async {
        let rig = Rig::new();
        let [w, other, a] = &addresses();
        let _peer = Fake::listen(a, &[w, other, a]).await;
        let mut config = rig.voter(w, &[a]);
        config.allow_from = vec!["10.0.0.0/8".parse().unwrap()];
        let witness = rig.start(config).await;
        until("it to listen", async || {
            !witness.logged("listening on").is_empty()
        })
        .await;
        let mut stream = raw(&witness).await;
        // Hung up on without a word, or reset.
        let read = in_time("the end", stream.read(&mut [0])).await;
        assert!(!matches!(read, Ok(1..)), "{read:?}");
        assert!(witness.status().await.is_none());
        assert!(!witness.logged("is in no network of allow_from").is_empty());

        let mut config = rig.voter(other, &[a]);
        config.allow_from = ["10.0.0.0/8", "127.0.0.0/8"]
            .map(|network| network.parse().unwrap())
            .to_vec();
        let open = rig.start(config).await;
        open.shows("itself", |_| true).await;
        assert_eq!(open.logged("allow_from"), Vec::<String>::new());
    });
}

#[test]
fn a_stranger_and_an_impostor() {
    run(async {
        let rig = Rig::new();
        let here = addresses::<4>();
        let trio = [here[0].clone(), here[1].clone(), here[2].clone()];
        let (witness, a, _b) = linked(&rig, &trio).await;
        let stranger = Fake::listen(&here[3], &[]).await;
        stranger.dial(&witness.address).await;
        stranger.append(9, id(1, 0), &[noop(2, 9)], 2);
        until("the stranger to be shown out", async || {
            !stranger.is_linked()
        })
        .await;
        assert_eq!(witness.logged("no member").len(), 1);
        assert_eq!(witness.status().await.unwrap().log_len, 1);

        // One that says it is ourselves.
        let stream = pg_witness::links::resolve::connect(&witness.address)
            .await
            .unwrap();
        let hello = Hello::Member(witness.address.clone());
        let session = pg_witness::wire::Session::dial(hello, None, [0; 32]);
        let mirror = pg_witness::links::connection::Connection::new(stream, session);
        mirror.send(&Message::AppendEntries(Append {
            term: term(9),
            commit: index(2),
            body: AppendBody::Entries {
                prev: Some(id(1, 0)),
                entries: vec![noop(2, 9)],
            },
        }));
        let serve = mirror.serve(|_| std::future::ready(()));
        in_time("the impostor to be shown out", serve).await;
        assert_eq!(witness.status().await.unwrap().log_len, 1);
        lives(&witness, &a).await;
    });
}

#[test]
fn terms_that_decrease() {
    // H7, E1: such logs exist; they are stored, acknowledged and found again.
    run(async {
        let rig = Rig::new();
        let here = addresses();
        let (witness, a, b) = linked(&rig, &here).await;
        let entries = [noop(2, 17), noop(3, 17), noop(4, 1), noop(5, 18)];
        until("success", async || {
            a.append(20, id(1, 0), &entries, 3);
            a.answer().await.success
        })
        .await;
        a.append(20, id(5, 18), &[noop(6, 2)], 6);
        assert_eq!(a.answer().await.next, 7);
        witness.shows("the commit", |s| s.commit_idx == 6).await;
        witness.stop().await;
        for fake in [&a, &b] {
            lived(fake, &here[1], 20, 6);
        }
        let witness = rig.start(rig.voter(&here[0], &[&here[1], &here[2]])).await;
        let status = witness.shows("the log", |s| s.log_len == 6).await;
        assert_eq!(status.raft_term, term(20));
        a.dial(&here[0]).await;
        a.drain();
        until("success", async || {
            a.append(20, id(6, 2), &[noop(7, 20)], 7);
            a.answer().await.success
        })
        .await;
    });
}

#[test]
fn two_leaders_of_one_term() {
    // S9, H25: the first is followed, the second is left without an answer.
    run(async {
        let rig = Rig::new();
        let (witness, a, b) = linked(&rig, &addresses()).await;
        until("success", async || {
            a.append(5, id(1, 0), &[noop(2, 5)], 2);
            a.answer().await.success
        })
        .await;
        b.append(5, id(1, 0), &[noop(2, 4), noop(3, 5)], 3);
        until("the complaint", async || {
            !witness.logged("both lead term 5").is_empty()
        })
        .await;
        a.append(5, id(2, 5), &[noop(3, 5)], 3);
        assert!(a.answer().await.success);
        assert!(
            !b.drain()
                .iter()
                .any(|m| matches!(m, Message::NextNodeIdx(_)))
        );
        assert!(b.is_linked());
    });
}

#[test]
fn a_leader_that_contradicts_what_is_committed() {
    // S2
    run(async {
        let rig = Rig::new();
        let (witness, a, b) = linked(&rig, &addresses()).await;
        until("success", async || {
            a.append(5, id(1, 0), &[noop(2, 5), noop(3, 5)], 3);
            a.answer().await.success
        })
        .await;
        witness.shows("the commit", |s| s.commit_idx == 3).await;
        b.append(6, id(1, 0), &[noop(2, 6), noop(3, 6), noop(4, 6)], 4);
        until("the alarm", async || witness.logged("DIVERGED").len() == 1).await;
        during(Duration::from_secs(2), async || {
            b.append(6, id(1, 0), &[noop(2, 6)], 2);
            a.ask_vote(30, id(9, 9));
            let silent = |fake: &Fake| {
                !fake
                    .drain()
                    .iter()
                    .any(|m| matches!(m, Message::ResponseVote { .. } | Message::NextNodeIdx(_)))
            };
            assert!(silent(&a) && silent(&b));
            let status = witness.status().await.unwrap();
            assert_eq!((status.state, status.commit_idx), (NodeState::Follower, 3));
        })
        .await;
        assert_eq!(witness.logged("DIVERGED").len(), 1);
    });
}

#[test]
fn snapshots_of_every_kind() {
    // E4, H12
    run(async {
        let rig = Rig::new();
        let (witness, a, _b) = linked(&rig, &addresses()).await;
        let log: Vec<Entry> = (2..=6).map(|i| noop(i, 5)).collect();
        until("success", async || {
            a.append(5, id(1, 0), &log, 6);
            a.answer().await.success
        })
        .await;
        witness.shows("the commit", |s| s.commit_idx == 6).await;
        a.drain();

        let of = |last: u64, t: u64| Snapshot {
            data: Vec::new(),
            last: noop(last, t),
            prev: noop(last - 1, t),
            members: a.members.borrow().clone(),
        };
        // No gzip; half a gzip; older than our commit.
        a.snapshot(5, 6, b"nonsense");
        assert!(a.answer().await.reset);
        let whole = of(9, 5).encode();
        a.snapshot(5, 6, &whole[..whole.len() / 2]);
        assert!(a.answer().await.reset);
        a.snapshot(5, 6, &of(3, 5).encode());
        a.answer().await;
        let status = witness.status().await.unwrap();
        assert_eq!((status.commit_idx, status.log_len), (6, 6));
        // One that is good.
        a.snapshot(5, 9, &whole);
        let answer = a.answer().await;
        assert!(answer.success && answer.next == 10, "{answer:?}");
        witness.shows("the snapshot", |s| s.commit_idx == 9).await;
        a.append(5, id(9, 5), &[noop(10, 5)], 10);
        assert!(a.answer().await.success);
    });
}

#[test]
fn answers_that_lie() {
    // S3, H9: a follower promises what it was never sent.
    run(async {
        let rig = Rig::new();
        // However long this takes: it shall not end its leadership for the silence.
        let patient = |mut config: ClusterConfig| {
            config.timing.leader_fallback_timeout = LIMIT;
            config
        };
        let (witness, [a, b]) = leading_with(&rig, &addresses(), patient).await;
        let client = Fake::client(&witness.address).await;
        let committed = client.write(set("x", 60.0)).await.index.get();
        for fake in [&a, &b] {
            fake.plain.answers.set(false);
        }
        client.apply(set("y", 60.0)).await;
        let lie = |next, reset, success| NextNodeIdx {
            next,
            reset,
            success,
        };
        let far = i64::try_from(committed).unwrap() + 1000;
        for reply in [
            lie(far, false, true),
            lie(i64::MAX, false, true),
            lie(i64::MIN, false, true),
            lie(0, false, true),
            lie(-1, true, false),
            lie(far, true, false),
            lie(1, true, true),
        ] {
            if !b.is_linked() {
                b.dial(&witness.address).await;
            }
            b.send(&Message::NextNodeIdx(reply));
            let status = witness.status().await.unwrap();
            assert_eq!(status.commit_idx, committed, "{reply:?}");
        }
        for fake in [&a, &b] {
            fake.plain.answers.set(true);
        }
        // What they left unanswered may cost them their links at any moment.
        until("the commit", async || {
            for fake in [&a, &b] {
                if !fake.is_linked() {
                    fake.dial(&witness.address).await;
                }
            }
            witness.status().await.unwrap().commit_idx > committed
        })
        .await;
    });
}

#[test]
fn poison() {
    // S6, H1, H6: a leader of ours refuses it; applied from elsewhere it
    // changes nothing.
    run(async {
        let rig = Rig::new();
        let (witness, [_a, _b]) = leading(&rig, &addresses()).await;
        let client = Fake::client(&witness.address).await;
        let Value::Str(missing) = Value::str("missing") else {
            unreachable!()
        };
        let missing: Str = missing;
        let poisons: [Arc<[u8]>; 5] = [
            command::delete(&missing, &[]),
            Arc::from(&b"\x00\x80\x02garbage"[..]),
            Arc::from(&b"\x00"[..]),
            Arc::from(&b"\x03\x80\x02K\x01."[..]),
            Arc::from(&b"\x02\x80\x02K\x01."[..]),
        ];
        for poison in &poisons {
            let outcome = client.apply(poison.clone()).await;
            let refused = ApplyOutcome::Refused(ApplyError::RequestDenied);
            assert_eq!(outcome, refused, "{poison:?}");
        }
        client.write(set("x", 60.0)).await;

        let (witness, a, _b) = linked(&rig, &addresses()).await;
        let entries: Vec<Entry> = (2..)
            .zip(&poisons)
            .map(|(i, poison)| Entry {
                id: id(i, 3),
                command: poison.clone(),
            })
            .collect();
        until("success", async || {
            a.append(3, id(1, 0), &entries, 6);
            a.answer().await.success
        })
        .await;
        witness.shows("them applied", |s| s.last_applied == 6).await;
        assert!(!witness.logged("stops Python nodes").is_empty());
        a.append(3, id(6, 3), &[noop(7, 3)], 7);
        assert!(a.answer().await.success);
    });
}

#[test]
fn another_password() {
    run(async {
        let rig = Rig::new();
        let [w, a, b] = addresses();
        let (ours, other) = (
            Arc::new(Key::from_bytes([1; 32])),
            Arc::new(Key::from_bytes([2; 32])),
        );
        // `w` is dialled, `b` dials.
        let config = rig.voter(&b, &[&w, &a]);
        let witness = rig.start_with(config, vec![ours.clone()]).await;
        let dialled = Fake::listen(&w, &[&w, &a, &b]).await;
        *dialled.keys.borrow_mut() = vec![other.clone()];
        let odd = Fake::listen(&a, &[&w, &a, &b]).await;
        witness.shows("itself", |_| true).await;
        for _ in 0..20 {
            let mut stream = raw(&witness).await;
            let mut token = Vec::new();
            other.encrypt(b"anything", 1, [3; 16], &mut Vec::new(), &mut token);
            let length = u32::try_from(token.len()).unwrap();
            stream.write_all(&length.to_be_bytes()).await.unwrap();
            stream.write_all(&token).await.unwrap();
            closed(&mut stream).await;
        }
        let lines = witness.logged("password mismatch?");
        assert!((1..=7).contains(&lines.len()), "{lines:?}");
        // The peer that it dials itself, again and again.
        pg_witness::reactor::Timer::after(Duration::from_secs(2)).await;
        let about = witness.logged(w.host());
        assert!(about.len() <= 4, "{about:#?}");

        // Plain text, where a password is asked for.
        let mut stream = raw(&witness).await;
        let _ = stream.write_all(b"\0\0\0\x04abcd").await;
        closed(&mut stream).await;
        *odd.keys.borrow_mut() = vec![ours.clone()];
        *dialled.keys.borrow_mut() = vec![ours];
        in_time("the link", dialled.linked()).await;
    });
}

/// Any message, its numbers small so that they meet.
fn any(rng: &mut SmallRng) -> Message {
    let t = |rng: &mut SmallRng| match rng.random_range(0..200) {
        0 => Term::new(i64::MAX as u64).unwrap(),
        _ => term(rng.random_range(0..30)),
    };
    let at = |rng: &mut SmallRng| match rng.random_range(0..100) {
        0 => i64::MAX as u64 - 2,
        _ => rng.random_range(1..20),
    };
    let data = |rng: &mut SmallRng| {
        let mut data = vec![0; rng.random_range(0..40)];
        rng.fill(&mut data[..]);
        Arc::<[u8]>::from(data)
    };
    let prev = rng
        .random_bool(0.9)
        .then(|| id(at(rng), rng.random_range(0..30)));
    let body = match rng.random_range(0..6) {
        0 => AppendBody::Fragment {
            prev,
            part: [
                FragmentPart::Start,
                FragmentPart::Process,
                FragmentPart::Finish,
            ][rng.random_range(0..3)],
            data: data(rng),
        },
        1 => AppendBody::Snapshot(rng.random_bool(0.8).then(|| SnapshotChunk {
            data: data(rng),
            first: rng.random(),
            last: rng.random(),
        })),
        _ => {
            let first = prev.map_or(2, |prev| prev.index.get() + 1).min(1 << 40);
            let prev = prev.filter(|prev| prev.index.get() + 1 == first);
            let count = rng.random_range(0..5);
            let mut entries: Vec<Entry> = (first..first + count)
                .map(|i| noop(i, rng.random_range(0..30)))
                .collect();
            for entry in &mut entries {
                if rng.random_bool(0.3) {
                    entry.command = data(rng);
                }
            }
            AppendBody::Entries { prev, entries }
        }
    };
    match rng.random_range(0..12) {
        0 => Message::RequestVote {
            term: t(rng),
            last: id(at(rng), rng.random_range(0..30)),
        },
        1 => Message::ResponseVote { term: t(rng) },
        2 => Message::TimeoutNow { term: t(rng) },
        3 => Message::ApplyCommand {
            command: data(rng),
            request_id: rng.random_bool(0.5).then(|| rng.random()),
        },
        4 => Message::ApplyCommandResponse {
            request_id: rng.random_range(0..5),
            outcome: ApplyOutcome::Appended(id(at(rng), 1)),
        },
        5 => Message::NextNodeIdx(NextNodeIdx {
            next: rng.random_range(-2..30),
            reset: rng.random(),
            success: rng.random(),
        }),
        _ => Message::AppendEntries(Append {
            term: t(rng),
            commit: index(at(rng)),
            body,
        }),
    }
}

#[test]
fn anything_that_can_be_said() {
    // S9: nothing that two members can say ends the process, or the members
    // that are not spoken to.
    let seed: u64 = std::env::var("HOSTILE_SEED").map_or(7, |seed| seed.parse().unwrap());
    for round in 0..4 {
        run(async {
            let rig = Rig::new();
            let (witness, a, b) = linked(&rig, &addresses()).await;
            let mut rng = SmallRng::seed_from_u64(seed + round);
            for step in 0..1500 {
                for fake in [&a, &b] {
                    if !fake.is_linked() {
                        fake.dial(&witness.address).await;
                    }
                    let message = any(&mut rng);
                    if fake.is_linked() {
                        fake.send(&message);
                    }
                    fake.drain();
                }
                if step % 20 == 0 {
                    pg_witness::reactor::Timer::after(Duration::from_millis(5)).await;
                }
                if step % 500 == 0 {
                    witness.ask(UtilityRequest::Members).await.unwrap();
                }
            }
            let status = witness.shows("itself", |_| true).await;
            println!("seed {}: {status:?}", seed + round);
            witness.stop().await;
            // What it has written it can read.
            let [w, a, b] = [&witness.address, &a.address, &b.address];
            let again = rig.start(rig.config(w, &[a, b])).await;
            again.shows("itself", |_| true).await;
            again.stop().await;
            reactor::spawn(async {}).await;
        });
    }
}
