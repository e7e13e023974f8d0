//! Sockets over the loopback device, and timers.

use super::super::Timer;
use super::*;

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    block_on(async {
        let (accepted, dialled) =
            futures_lite::future::zip(listener.accept(), TcpStream::connect(address)).await;
        (accepted.unwrap().0, dialled.unwrap())
    })
}

#[test]
fn bytes_pass_both_ways_and_the_end_is_seen() {
    let (one, other) = pair();
    block_on(async {
        one.write_all(b"ping").await.unwrap();
        let mut buffer = [0; 16];
        assert_eq!(other.read(&mut buffer).await.unwrap(), 4);
        // Data and end in one edge: the short read must not hide the end.
        one.write_all(b"last").await.unwrap();
        drop(one);
        assert_eq!(other.read(&mut buffer).await.unwrap(), 4);
        assert_eq!(other.read(&mut buffer).await.unwrap(), 0);
    });
}

#[test]
fn more_than_the_socket_holds_is_written_while_it_is_read() {
    let (one, other) = pair();
    let sent: Vec<u8> = (0..4_000_000u32).map(|i| i.to_le_bytes()[0]).collect();
    let received = block_on(async {
        let receive = async {
            let mut received = Vec::new();
            let mut buffer = vec![0; 16 << 10];
            while received.len() < sent.len() {
                let count = other.read(&mut buffer).await.unwrap();
                received.extend_from_slice(&buffer[..count]);
            }
            received
        };
        futures_lite::future::zip(one.write_all(&sent), receive)
            .await
            .1
    });
    assert_eq!(received, sent);
}

#[test]
fn a_refused_connection_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = block_on(TcpStream::connect(address)).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn timers_fire_in_order_and_another_thread_can_wake() {
    let (sender, receiver) = futures_channel::oneshot::channel();
    let order = RefCell::new(Vec::new());
    block_on(async {
        let short = async {
            Timer::after(Duration::from_millis(5)).await;
            order.borrow_mut().push("short");
        };
        let long = async {
            Timer::after(Duration::from_millis(40)).await;
            order.borrow_mut().push("long");
            std::thread::spawn(move || sender.send(()));
        };
        // While nothing else would end the sleep for a minute.
        let late = async {
            Timer::after(Duration::from_secs(60)).await;
            order.borrow_mut().push("late");
        };
        let woken = async {
            receiver.await.unwrap();
            order.borrow_mut().push("woken");
        };
        let woken = futures_lite::future::or(woken, late);
        let _ = futures_lite::future::zip(futures_lite::future::zip(short, long), woken).await;
    });
    assert_eq!(*order.borrow(), ["short", "long", "woken"]);
    assert_eq!(timer::next(), None);
}
