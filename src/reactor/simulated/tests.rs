//! Two hosts, a connection between them, and what happens to it. A simulation wants
//! a thread of its own, which each test has.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use super::network;
use crate::reactor::simulated::nodes::Processes;
use crate::reactor::{TcpListener, TcpStream, Timer, simulated};

const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// What happened, and in which second.
#[derive(Clone, Default)]
struct Notes(Rc<RefCell<Vec<String>>>);

impl Notes {
    fn add(&self, what: String) {
        let second = simulated::passed().as_secs();
        self.0.borrow_mut().push(format!("{second}s {what}"));
    }

    fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

/// ONE writes "a" every second to OTHER, which notes what it reads.
fn begin(notes: &Notes) -> Processes {
    let mut nodes = Processes::begin(1);
    let read = notes.clone();
    let served = async move {
        let listener = TcpListener::bind((OTHER, 1).into()).unwrap();
        let (stream, from) = listener.accept().await.unwrap();
        assert_eq!(from.ip(), ONE);
        let mut buffer = [0; 8];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => break read.add("read the end".into()),
                Ok(count) => read.add(format!("read {count}")),
                Err(error) => break read.add(format!("reading: {:?}", error.kind())),
            }
        }
    };
    nodes.spawn(OTHER, served).detach();
    let wrote = notes.clone();
    let writing = async move {
        let stream = TcpStream::connect((OTHER, 1).into()).await.unwrap();
        stream.set_user_timeout(USER_TIMEOUT);
        loop {
            if let Err(error) = stream.write_all(b"a").await {
                break wrote.add(format!("writing: {:?}", error.kind()));
            }
            Timer::after(Duration::from_secs(1)).await;
        }
    };
    nodes.run_for(Duration::from_millis(1));
    nodes.spawn(ONE, writing).detach();
    nodes.run_for(Duration::from_millis(500));
    assert_eq!(notes.all(), ["0s read 1"]);
    nodes
}

fn cut(from: IpAddr, to: IpAddr) {
    network::set_line(from, to, |line| line.cut = true);
}

#[test]
fn what_a_cut_holds_up_arrives_whole_once_it_is_healed() {
    let notes = Notes::default();
    let mut nodes = begin(&notes);
    cut(ONE, OTHER);
    nodes.run_for(Duration::from_secs(3));
    assert_eq!(notes.all().len(), 1);
    network::heal();
    // The longest pause of a retransmission.
    nodes.run_for(Duration::from_secs(2));
    let counts = |note: &String| {
        note.split(' ')
            .next_back()
            .unwrap()
            .parse::<usize>()
            .unwrap()
    };
    let notes = notes.all();
    assert_eq!(notes.iter().map(counts).sum::<usize>(), 6, "{notes:?}");
}

#[test]
fn the_writer_gives_up_after_its_user_timeout_also_where_only_the_answers_are_lost() {
    for (from, to) in [(ONE, OTHER), (OTHER, ONE)] {
        let test = move || {
            let notes = Notes::default();
            let mut nodes = begin(&notes);
            cut(from, to);
            nodes.run_for(Duration::from_secs(30));
            notes.all()
        };
        let notes = std::thread::spawn(test).join().unwrap();
        let end = notes.last().unwrap();
        assert!(end.ends_with("writing: TimedOut"), "{notes:?}");
        let second: u64 = end.split('s').next().unwrap().parse().unwrap();
        assert!((10..=12).contains(&second), "{notes:?}");
    }
}

#[test]
fn a_kill_is_the_end_of_its_connections() {
    let notes = Notes::default();
    let mut nodes = begin(&notes);
    nodes.kill(ONE);
    nodes.run_for(Duration::from_secs(1));
    assert_eq!(notes.all().last().unwrap(), "0s read the end");
}

#[test]
fn a_host_that_is_back_does_not_know_its_connections() {
    let notes = Notes::default();
    let mut nodes = begin(&notes);
    nodes.power_off(OTHER);
    nodes.run_for(Duration::from_secs(3));
    assert_eq!(notes.all().len(), 1);
    network::power_on(OTHER);
    nodes.run_for(Duration::from_secs(3));
    assert!(
        notes.all()[1].ends_with(&format!("writing: {:?}", ErrorKind::ConnectionReset)),
        "{:?}",
        notes.all()
    );
}

#[test]
fn a_frozen_process_misses_nothing() {
    let notes = Notes::default();
    let mut nodes = begin(&notes);
    nodes.freeze(OTHER);
    nodes.run_for(Duration::from_secs(20));
    assert_eq!(notes.all().len(), 1);
    nodes.thaw(OTHER);
    nodes.run_for(Duration::from_millis(100));
    assert!(notes.all()[1].starts_with("20s read "), "{:?}", notes.all());
}
