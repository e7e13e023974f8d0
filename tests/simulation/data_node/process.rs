//! The process of a PySyncObj node: Patroni's start, PySyncObj's loop, the sockets,
//! and who writes in it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use event_listener::Event;
use pg_witness::address::Address;
use pg_witness::links::utility_client;
use pg_witness::reactor::{self, TcpListener, TcpStream, Timer, draw, rng, simulated, wall_clock};
use pg_witness::wire::frame::{self, FrameBuffer, FrameError, Inflater};
use pg_witness::wire::{Value, pickle};
use rand::RngExt as _;
use rand::seq::SliceRandom as _;

use super::Life;
use super::observer::Cause;
use crate::client;
use crate::journal;
use crate::pysyncobj::{Effect, Files, Moment, Node as Model, Socket};

/// `autoTickPeriod`: how long a poll waits for something to arrive.
const POLL: Duration = Duration::from_millis(50);

/// Patroni's `retry_timeout`, which a start has for all partners (spec 8.3).
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);

/// When Linux gives up a dial that nobody answers (spec 1.2).
const DIAL_TIME: Duration = Duration::from_secs(127);

/// The largest frame, and what it may inflate to.
const FRAME_MAX: usize = 64 << 20;

/// Bytes that are read at once.
const READ_BYTES: usize = 16 << 10;

/// The monotonic clock of a host when its world begins, in seconds.
const BOOTED_S: f64 = 1_000.0;

/// Keys that are written in turn.
const KEYS: u64 = 5;

/// What the loop has still to look at.
enum Happened {
    Accepted(TcpStream, IpAddr),
    Dialled(Socket, Option<TcpStream>),
    Received(Socket, Value),
    Ended(Socket),
}

/// A connection, or a dial that is under way.
struct Wire {
    peer: IpAddr,
    out: Rc<RefCell<Vec<u8>>>,
    wake: Rc<Event>,
    /// Reads and writes, and ends the connection when it is dropped.
    task: Option<smol::Task<()>>,
}

struct Process {
    life: Rc<Life>,
    inbox: RefCell<Vec<Happened>>,
    news: Event,
    wires: RefCell<BTreeMap<Socket, Wire>>,
    proposals: RefCell<BTreeMap<u64, bool>>,
    proposed: Event,
    tickets: Cell<u64>,
}

/// Runs until it is killed.
pub(super) async fn run(life: Rc<Life>) {
    let mut config = life.config.clone();
    config.version = life.version.get();
    config.members = ask_partners(&life).await;
    let files: Files = life.files.borrow().clone();
    let started = Model::start(config, files, now(), &mut || draw());
    let model = match started {
        Ok(model) => model,
        Err(error) => {
            journal::write(&format!("PYSYNCOBJ {}: does not start: {error}", life.name));
            return;
        }
    };
    let address: std::net::SocketAddr = life.config.address.as_str().parse().unwrap();
    let listener = TcpListener::bind(address).unwrap();
    life.observer.borrow_mut().begins(&model);
    life.model.replace(Some(model));
    journal::write(&format!("PYSYNCOBJ {}: started", life.name));
    let process = Rc::new(Process {
        life,
        inbox: RefCell::default(),
        news: Event::new(),
        wires: RefCell::default(),
        proposals: RefCell::default(),
        proposed: Event::new(),
        tickets: Cell::new(0),
    });
    let accepting = process.clone();
    reactor::spawn(async move {
        while let Ok((stream, from)) = listener.accept().await {
            accepting.happens(Happened::Accepted(stream, from.ip()));
        }
    })
    .detach();
    reactor::spawn(write_for_ever(process.clone())).detach();
    process.poll_for_ever().await;
}

/// Who the members are: the first answer of a partner, or what is configured.
async fn ask_partners(life: &Life) -> Vec<Address> {
    let mut partners = life.config.members.clone();
    partners.shuffle(&mut rng());
    let limit = RETRY_TIMEOUT / u32::try_from(partners.len().max(1)).unwrap();
    for partner in &partners {
        if let Ok(members) = utility_client::ask_members(partner, &[], limit).await {
            let members = members.0.into_iter().map(|member| member.address);
            return members
                .filter(|address| *address != life.config.address)
                .collect();
        }
    }
    life.config.members.clone()
}

fn now() -> Moment {
    let wall = wall_clock().duration_since(SystemTime::UNIX_EPOCH);
    Moment {
        monotonic_s: BOOTED_S + simulated::passed().as_secs_f64(),
        wall_s: wall.unwrap_or_default().as_secs_f64(),
    }
}

impl Process {
    fn happens(&self, what: Happened) {
        self.inbox.borrow_mut().push(what);
        self.news.notify(1);
    }

    async fn poll_for_ever(self: &Rc<Self>) {
        loop {
            let news = self.news.listen();
            for what in self.inbox.take() {
                self.handle(what);
            }
            self.on(&Cause::Itself, |model| model.tick(now(), &mut || draw()));
            let late = async {
                Timer::after(POLL).await;
            };
            smol::future::or(news, late).await;
        }
    }

    fn handle(self: &Rc<Self>, what: Happened) {
        match what {
            Happened::Accepted(stream, peer) => {
                let mut model = self.life.model.borrow_mut();
                let Some(model) = model.as_mut().filter(|model| !model.is_dead()) else {
                    // Nobody accepts any more; the kernel does.
                    return;
                };
                let socket = model.accept(now());
                self.hold(socket, peer);
                self.connect(socket, stream);
            }
            Happened::Dialled(socket, Some(stream)) => {
                self.connect(socket, stream);
                self.on(&Cause::Itself, |model| model.established(socket, now()));
            }
            Happened::Dialled(socket, None) | Happened::Ended(socket) => {
                self.wires.borrow_mut().remove(&socket);
                self.on(&Cause::Itself, |model| model.closed(socket, now()));
            }
            Happened::Received(socket, message) => {
                let peer = self.wires.borrow().get(&socket).map(|wire| wire.peer);
                let Some(peer) = peer else { return };
                let cause = Cause::Message(socket, peer, &message);
                self.on(&cause, |model| {
                    model.received(socket, &message, now(), &mut || draw())
                });
            }
        }
    }

    /// Lets the node handle an event, and does what comes of it.
    fn on(self: &Rc<Self>, cause: &Cause<'_>, event: impl FnOnce(&mut Model) -> Vec<Effect>) {
        let effects = {
            let mut model = self.life.model.borrow_mut();
            let Some(model) = model.as_mut() else { return };
            event(model)
        };
        {
            let model = self.life.model.borrow();
            let Some(model) = model.as_ref() else { return };
            let mut observer = self.life.observer.borrow_mut();
            observer.look(&self.life, model, cause, &effects);
        }
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(self: &Rc<Self>, effect: Effect) {
        match effect {
            Effect::Dial { socket, to } => self.dial(socket, to),
            Effect::Send { socket, message } => {
                let wires = self.wires.borrow();
                let Some(wire) = wires.get(&socket) else {
                    return;
                };
                let mut pickled = Vec::new();
                pickle::encode(&message, &mut pickled);
                let written: Result<(), FrameError> =
                    frame::write_frame(&mut wire.out.borrow_mut(), FRAME_MAX, |body| {
                        frame::store(&pickled, body);
                        Ok(())
                    });
                written.unwrap();
                wire.wake.notify(1);
            }
            Effect::Close { socket } => {
                self.wires.borrow_mut().remove(&socket);
            }
            Effect::Done { ticket, outcome } => {
                let waits = self.proposals.borrow_mut().remove(&ticket).is_some();
                if waits && outcome.is_ok() {
                    self.proposals.borrow_mut().insert(ticket, true);
                }
                self.proposed.notify(usize::MAX);
            }
            Effect::Raised(_) => {}
        }
    }

    fn hold(&self, socket: Socket, peer: IpAddr) {
        let wire = Wire {
            peer,
            out: Rc::default(),
            wake: Rc::default(),
            task: None,
        };
        self.wires.borrow_mut().insert(socket, wire);
    }

    fn dial(self: &Rc<Self>, socket: Socket, to: Address) {
        let target: std::net::SocketAddr = to.as_str().parse().unwrap();
        self.hold(socket, target.ip());
        let process = self.clone();
        let task = reactor::spawn(async move {
            let connect = async { TcpStream::connect(target).await.ok() };
            let late = async {
                Timer::after(DIAL_TIME).await;
                None
            };
            let stream = smol::future::or(connect, late).await;
            process.happens(Happened::Dialled(socket, stream));
        });
        if let Some(wire) = self.wires.borrow_mut().get_mut(&socket) {
            wire.task = Some(task);
        }
    }

    /// The connection is there.
    fn connect(self: &Rc<Self>, socket: Socket, stream: TcpStream) {
        let mut wires = self.wires.borrow_mut();
        let Some(wire) = wires.get_mut(&socket) else {
            return;
        };
        let (out, wake) = (wire.out.clone(), wire.wake.clone());
        let process = self.clone();
        wire.task = Some(reactor::spawn(async move {
            smol::future::or(process.read(socket, &stream), write(&stream, &out, &wake)).await;
            process.happens(Happened::Ended(socket));
        }));
    }

    /// Reads frames until the end, or until something is none.
    async fn read(&self, socket: Socket, stream: &TcpStream) {
        let mut bytes = vec![0; READ_BYTES];
        let mut frames = FrameBuffer::default();
        let mut inflater = Inflater::default();
        let mut pickled = Vec::new();
        loop {
            match stream.read(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(count) => frames.feed(&bytes[..count]),
            }
            loop {
                match frames.next(FRAME_MAX) {
                    Ok(Some(body)) => {
                        let inflated = inflater.inflate(body, FRAME_MAX, &mut pickled);
                        let Some(value) =
                            inflated.ok().and_then(|()| pickle::decode(&pickled).ok())
                        else {
                            return;
                        };
                        self.happens(Happened::Received(socket, value));
                    }
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
        }
    }
}

async fn write(stream: &TcpStream, out: &RefCell<Vec<u8>>, wake: &Event) {
    loop {
        let more = wake.listen();
        let batch = out.take();
        if batch.is_empty() {
            more.await;
        } else if stream.write_all(&batch).await.is_err() {
            return;
        }
    }
}

/// The Patroni in this process: it writes once its own log is applied, one write after
/// the other, and each acknowledgement is the node's own (`_set` returned).
async fn write_for_ever(process: Rc<Process>) {
    let life = process.life.clone();
    loop {
        let pause = rng().random_range(500..4_000);
        Timer::after(Duration::from_millis(pause)).await;
        let ready = {
            let model = life.model.borrow();
            let ready = model.as_ref().is_some_and(Model::has_applied_local_log);
            ready && life.history.writing.get()
        };
        if !ready {
            continue;
        }
        let value = life.history.next_value();
        let key = format!("/service/demo/{}{}", life.name, value % KEYS);
        life.history.begins(&key, value);
        let ticket = process.tickets.get() + 1;
        process.tickets.set(ticket);
        process.proposals.borrow_mut().insert(ticket, false);
        let command = client::set(&key, value, client::FOR_EVER);
        process.on(&Cause::Itself, |model| {
            model.propose(command, Some(ticket), now())
        });
        let decided = async {
            loop {
                let news = process.proposed.listen();
                match process.proposals.borrow().get(&ticket) {
                    Some(false) => {}
                    Some(true) => return true,
                    None => return false,
                }
                news.await;
            }
        };
        let late = async {
            Timer::after(RETRY_TIMEOUT).await;
            false
        };
        let acknowledged = smol::future::or(decided, late).await;
        process.proposals.borrow_mut().remove(&ticket);
        if acknowledged {
            life.history.acknowledges(&key, value);
        }
    }
}
