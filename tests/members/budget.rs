//! S16: nobody spends what is ours. What one connection costs is felt by that
//! connection alone.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use pg_witness::limits::{self, CpuShare};
use pg_witness::links::budget::Class;
use pg_witness::links::budget::cpu::Account;
use pg_witness::links::connection::{Closed, Connection};
use pg_witness::reactor::{self, Instant, TcpListener, Timer};
use pg_witness::wire::message::Hello;
use pg_witness::wire::utility::UtilityRequest;
use pg_witness::wire::{Session, Value, frame};
use rustix::time::{ClockId, clock_gettime};
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::net::TcpStream;

use crate::fake::Fake;
use crate::rig::{Rig, Running, addresses, in_time, run, until};

/// What one side of a connection has had to handle.
struct Served {
    connection: Rc<Connection>,
    handled: Rc<Cell<usize>>,
    ended: Rc<RefCell<Option<Closed>>>,
}

/// A connection that was made to us, and its other end.
async fn pair() -> (Rc<Connection>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let at = listener.local_addr().unwrap();
    let client = TcpStream::connect(at).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let session = Session::accept(&[], [0; 32]);
    (Connection::new(stream, session), client)
}

/// Has every message of a connection handled by `handle`.
fn serve(connection: Rc<Connection>, handle: impl Fn(&Connection) + 'static) -> Served {
    let served = Served {
        connection: connection.clone(),
        handled: Rc::default(),
        ended: Rc::default(),
    };
    let (handled, ended) = (served.handled.clone(), served.ended.clone());
    reactor::spawn(async move {
        let closed = connection
            .serve(|_| {
                handle(&connection);
                handled.set(handled.get() + 1);
                std::future::ready(())
            })
            .await;
        *ended.borrow_mut() = Some(closed);
    })
    .detach();
    served
}

/// `status`, so many times.
fn questions(count: usize) -> Vec<u8> {
    let mut one = Vec::new();
    let mut session = Session::dial(Hello::Utility(UtilityRequest::Status), None, [0; 32]);
    session
        .start(&mut pg_witness::wire::Codec::new(), 0, &mut one)
        .unwrap();
    one.repeat(count)
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (s, ns) = (time.tv_sec.try_into(), time.tv_nsec.try_into());
    Duration::new(s.unwrap(), ns.unwrap())
}

/// Uses CPU time, as a message does that is costly to decode.
fn work(time: Duration) {
    let began = thread_time();
    while thread_time() - began < time {
        std::hint::spin_loop();
    }
}

#[test]
fn others_run_after_every_message() {
    run(async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let (one, mut first) = pair().await;
        let (other, mut second) = pair().await;
        // Both have all of it in their sockets before either is served.
        first.write_all(&questions(20)).await.unwrap();
        second.write_all(&questions(20)).await.unwrap();
        for (name, connection) in [("one", one), ("other", other)] {
            let order = order.clone();
            serve(connection, move |_| order.borrow_mut().push(name));
        }
        until("all to be handled", async || order.borrow().len() == 40).await;
        let order = order.borrow();
        let turns = order.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(turns > 30, "{order:?}");
    });
}

#[test]
fn who_costs_much_waits_and_others_do_not() {
    run(async {
        let (connection, mut client) = pair().await;
        connection.admit(Class::ReadOnly, Class::ReadOnly.account());
        let cost = Duration::from_millis(10);
        let costly = serve(connection, move |_| work(cost));
        let began = Instant::now();
        client.write_all(&questions(100)).await.unwrap();
        let burst = limits::READ_ONLY_CPU.burst.as_millis() / cost.as_millis();
        let handled = || u128::try_from(costly.handled.get()).unwrap();
        until("the burst", async || handled() >= burst).await;
        let mut answered = 0;
        // On a busy machine the burst alone may take as long.
        while answered < 2 || began.elapsed() < Duration::from_secs(2) {
            let (connection, mut client) = pair().await;
            let other = serve(connection, |connection| connection.send("FAIL"));
            client.write_all(&questions(1)).await.unwrap();
            in_time("an answer", client.read(&mut [0; 64]))
                .await
                .unwrap();
            assert_eq!(other.handled.get(), 1);
            answered += 1;
            Timer::after(Duration::from_millis(20)).await;
        }
        // What one connection may use, and the message with which it goes beyond.
        let repaid = began.elapsed() * limits::READ_ONLY_CPU.per_mille / 1_000;
        let most = burst + 1 + repaid.as_millis() / cost.as_millis();
        assert!(handled() <= most, "{} of {most}", handled());
        assert!(costly.ended.borrow().is_none(), "it is not closed");
    });
}

/// With a password there are no strangers: a client that writes much is not held up.
#[test]
fn a_reader_with_the_password_may_cost_what_a_member_may() {
    run(async {
        let (connection, mut client) = pair().await;
        let account = Class::of_reader(true).account();
        connection.admit(Class::of_reader(true), account.clone());
        let cost = Duration::from_millis(10);
        let most = limits::READ_ONLY_CPU.burst + limits::ALL_READ_ONLY_CPU.burst;
        let count = usize::try_from(2 * most.as_millis() / cost.as_millis()).unwrap();
        let served = serve(connection, move |_| work(cost));
        client.write_all(&questions(count)).await.unwrap();
        until("all of it", async || served.handled.get() == count).await;
        assert_eq!(account.borrow().pause(Instant::now()), None);
    });
}

#[test]
fn a_new_connection_does_not_buy_a_member_more_time() {
    run(async {
        let account = Class::Member.account();
        let burst = limits::MEMBER_CPU.burst;
        account.borrow_mut().charge(Instant::now(), burst);
        let began = Instant::now();
        for _ in 0..2 {
            let (connection, mut client) = pair().await;
            connection.admit(Class::Member, account.clone());
            let served = serve(connection, |_| work(Duration::from_millis(50)));
            client.write_all(&questions(10)).await.unwrap();
            until("its messages", async || served.handled.get() == 10).await;
        }
        // A second of work at half speed, but for the last message.
        assert!(began.elapsed() > Duration::from_millis(1_800));
    });
}

#[test]
fn who_does_not_read_is_not_read_from() {
    run(async {
        let (connection, mut client) = pair().await;
        // It may use all the time that there is.
        let share = CpuShare {
            per_mille: 1_000,
            ..limits::MEMBER_CPU
        };
        let account = Rc::new(RefCell::new(Account::new(share, Instant::now())));
        connection.admit(Class::Pending, account);
        let reply = "x".repeat(1_000);
        let served = serve(connection, move |connection| {
            connection.send(reply.as_str())
        });
        let asking = reactor::spawn(async move {
            // More than the kernel keeps for either side.
            let _ = client.write_all(&questions(400_000)).await;
            client
        });
        let mut last = (0, Instant::now());
        until("it to be read no more", async || {
            assert!(served.connection.queued() <= limits::UNSENT_BYTES_MAX + 2_000);
            if served.handled.get() != last.0 {
                last = (served.handled.get(), Instant::now());
            }
            let still = last.1.elapsed() > Duration::from_secs(1);
            still && served.connection.queued() > limits::UNSENT_BYTES_MAX
        })
        .await;
        drop(asking);
    });
}

#[test]
fn a_message_that_never_ends() {
    run(async {
        let rig = Rig::new();
        let [w, a, b] = &addresses();
        let witness = rig.start(rig.voter(w, &[a, b])).await;
        until("it to listen", async || {
            !witness.logged("listening on").is_empty()
        })
        .await;
        let mut reader = reader(&witness).await;
        let begun = Instant::now();
        // A length, and then a byte from time to time.
        reader.write_all(&200_000_i32.to_le_bytes()).await.unwrap();
        in_time("the end", async {
            while reader.write_all(&[0]).await.is_ok() {
                Timer::after(Duration::from_millis(100)).await;
            }
        })
        .await;
        assert!(begun.elapsed() >= limits::MESSAGE_TIME_MAX);
        assert_eq!(witness.logged("did not arrive whole").len(), 1);
    });
}

/// Says that it is a read-only client.
async fn reader(witness: &Running) -> TcpStream {
    let address = (witness.address.host(), witness.address.port());
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut hello = Vec::new();
    Session::dial(Hello::ReadOnly, None, [0; 32])
        .start(&mut pg_witness::wire::Codec::new(), 0, &mut hello)
        .unwrap();
    stream.write_all(&hello).await.unwrap();
    stream
}

#[test]
fn readers_that_say_nothing_keep_nobody_out() {
    run(async {
        let rig = Rig::new();
        let [w, a, b] = &addresses();
        let all = [w, a, b];
        let _a = Fake::listen(a, &all).await;
        let witness = rig.start(rig.voter(w, &[a, b])).await;
        witness.shows("itself", |_| true).await;
        let mut readers = Vec::new();
        for count in 1..=limits::READ_ONLY_MAX + 1 {
            readers.push(reader(&witness).await);
            let count = count.min(limits::READ_ONLY_MAX);
            witness
                .shows("the readers", |s| s.readonly.len() == count)
                .await;
        }
        // The first one is out, the last one in.
        let end = in_time("the end of the first", readers[0].read(&mut [0])).await;
        assert!(!matches!(end, Ok(1..)), "{end:?}");
        assert!(!witness.logged("too many read-only clients").is_empty());
    });
}

#[test]
fn a_reader_gets_no_more_memory_than_a_command_takes() {
    run(async {
        let rig = Rig::new();
        let [w, a, b] = &addresses();
        let witness = rig.start(rig.voter(w, &[a, b])).await;
        witness.shows("itself", |_| true).await;
        let mut reader = reader(&witness).await;
        let body = vec![0; limits::READ_ONLY_BYTES_MAX + 1];
        let mut large = Vec::new();
        frame::write_frame::<frame::FrameError>(&mut large, body.len(), |out| {
            out.extend_from_slice(&body);
            Ok(())
        })
        .unwrap();
        in_time("the end", async {
            let _ = reader.write_all(&large).await;
            let _ = reader.read(&mut [0]).await;
        })
        .await;
        witness.shows("no reader", |s| s.readonly.is_empty()).await;
        let _: Option<Value> = witness.ask(UtilityRequest::Members).await;
    });
}

#[test]
fn a_peer_that_closes_at_once_is_said_once_with_what_may_be_wrong() {
    // A password on its side only: it does not understand our hello.
    run(async {
        let rig = Rig::new();
        let [a, b, w] = &addresses();
        let peer = TcpListener::bind(a.as_str().parse().unwrap()).unwrap();
        let dialled = Rc::new(Cell::new(0));
        let count = dialled.clone();
        let _accepting = reactor::spawn(async move {
            while let Ok((stream, _)) = peer.accept().await {
                let _ = stream.read(&mut [0; 512]).await;
                count.set(count.get() + 1);
            }
        });
        let witness = rig.start(rig.voter(w, &[a, b])).await;
        until("it to dial", async || dialled.get() >= 20).await;
        assert_eq!(witness.logged(&format!("{a} connected")).len(), 0);
        let said = witness.logged(a.host());
        let why = "it closes every connection at once: password mismatch, or";
        let about: Vec<_> = said.iter().filter(|line| line.contains(why)).collect();
        assert_eq!(about.len(), 1, "{said:#?}");
        assert!(about[0].contains(&format!("{w} is not among its partner_addrs?")));
    });
}

#[test]
fn a_flood_of_hellos_is_counted() {
    run(async {
        let rig = Rig::new();
        let [w, a, b] = &addresses();
        let witness = rig.start(rig.voter(w, &[a, b])).await;
        witness.shows("itself", |_| true).await;
        for _ in 0..40 {
            let mut stream = TcpStream::connect((w.host(), w.port())).await.unwrap();
            let mut hello = Vec::new();
            Session::dial(Hello::Member(w.clone()), None, [0; 32])
                .start(&mut pg_witness::wire::Codec::new(), 0, &mut hello)
                .unwrap();
            stream.write_all(&hello).await.unwrap();
            in_time("the end", async {
                while stream.read(&mut [0; 64]).await.is_ok_and(|count| count > 0) {}
            })
            .await;
        }
        // The 1st, 2nd, 4th, 8th, 16th and 32nd.
        let said = witness.logged("which is no member");
        assert_eq!(said.len(), 6, "{said:#?}");
        assert!(said[5].ends_with("(32 times)"));
    });
}
