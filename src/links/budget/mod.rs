//! What a connection may cost us, by who is at the other end (S16): CPU time of
//! the one thread, and memory of the one process.
//!
//! [`cpu`] and [`memory`] decide and are pure. Here is what they are applied to:
//! the three [`Class`]es of connections, the accounts that the connections of a
//! class share, and the clock that measures what one costs. A connection in debt
//! is not read from until it is out of debt, which costs it nothing but time; one
//! that wants memory that is not there is closed.
//!
//! Strangers and read-only clients never draw on what the members have.

pub mod cpu;
pub mod memory;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use self::cpu::Account;
use self::memory::{Pool, Reservation};
use crate::limits::{self, CpuShare};
use crate::reactor::Instant;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It has not said who it is, or asks utility questions.
    Pending,
    /// A read-only client of a group without a password: anybody may be one.
    ReadOnly,
    /// A member of the group, a read-only client that knows its password, or whom
    /// we dialled.
    Member,
}

impl Class {
    /// That of a read-only client. One with the group's password may do whatever
    /// a member may, and write as fast.
    pub fn of_reader(has_password: bool) -> Self {
        if has_password {
            Self::Member
        } else {
            Self::ReadOnly
        }
    }

    /// What one connection may use.
    fn share(self) -> CpuShare {
        match self {
            Self::Pending => limits::PENDING_CPU,
            Self::ReadOnly => limits::READ_ONLY_CPU,
            Self::Member => limits::MEMBER_CPU,
        }
    }

    /// A new account of one connection or, for a member, of all connections that
    /// it makes one after the other.
    pub fn account(self) -> Rc<RefCell<Account>> {
        Rc::new(RefCell::new(Account::new(self.share(), Instant::now())))
    }

    /// The right to hold memory, as yet of nothing.
    pub fn hold(self) -> Reservation {
        POOLS.with(|pools| match self {
            Self::Pending | Self::ReadOnly => {
                let most = limits::OTHERS_MEMORY_BYTES / 4;
                Reservation::new(pools.others.clone(), 0, most)
            }
            Self::Member => Reservation::new(
                pools.members.clone(),
                limits::MEMBER_MEMORY_BYTES_RESERVED,
                limits::MEMBERS_MEMORY_BYTES,
            ),
        })
    }
}

/// The memory of all connections.
struct Pools {
    others: Rc<Pool>,
    members: Rc<Pool>,
}

/// The CPU time of all connections of a class together.
struct Classes {
    pending: RefCell<Account>,
    read_only: RefCell<Account>,
}

impl Classes {
    fn of(&self, class: Class) -> Option<&RefCell<Account>> {
        match class {
            Class::Pending => Some(&self.pending),
            Class::ReadOnly => Some(&self.read_only),
            // Each member has a share of its own.
            Class::Member => None,
        }
    }
}

thread_local! {
    static POOLS: Pools = Pools {
        others: Pool::new(limits::OTHERS_MEMORY_BYTES),
        members: Pool::new(limits::MEMBERS_MEMORY_BYTES),
    };
    static CLASSES: Classes = Classes {
        pending: RefCell::new(Account::new(limits::ALL_PENDING_CPU, Instant::now())),
        read_only: RefCell::new(Account::new(limits::ALL_READ_ONLY_CPU, Instant::now())),
    };
}

/// Measures the CPU time of one connection and says when it must pause.
pub struct Meter {
    class: Cell<Class>,
    own: RefCell<Rc<RefCell<Account>>>,
}

impl Meter {
    /// A meter with an account of its own.
    pub fn new(class: Class) -> Self {
        Self {
            class: Cell::new(class),
            own: RefCell::new(class.account()),
        }
    }

    /// Who it is has become known; `account` is charged from now on.
    pub fn admit(&self, class: Class, account: Rc<RefCell<Account>>) {
        self.class.set(class);
        *self.own.borrow_mut() = account;
    }

    /// Whom it measures.
    pub fn class(&self) -> Class {
        self.class.get()
    }

    fn charge(&self, cost: Duration) {
        let now = Instant::now();
        self.own.borrow().borrow_mut().charge(now, cost);
        CLASSES.with(|classes| {
            if let Some(all) = classes.of(self.class.get()) {
                all.borrow_mut().charge(now, cost);
            }
        });
    }

    /// How long nothing may be read, as things stand.
    pub fn pause(&self) -> Option<Duration> {
        let now = Instant::now();
        let own = self.own.borrow();
        let own = own.borrow();
        let class = self.class.get();
        // A stranger that has cost next to nothing may be a member about to say
        // so: it does not wait for what the others cost. A read-only client does.
        let waits_for_all = class == Class::ReadOnly || own.debt(now) > limits::PENDING_CPU_FREE;
        let all = CLASSES.with(|classes| {
            let all = classes.of(class).filter(|_| waits_for_all);
            all.and_then(|all| all.borrow().pause(now))
        });
        own.pause(now).max(all)
    }

    /// Charges what `future` costs each time that it runs.
    pub async fn measure<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            let began = thread_time();
            let polled = future.as_mut().poll(cx);
            self.charge(thread_time().saturating_sub(began));
            polled
        })
        .await
    }
}

/// CPU time of this thread: unlike the time that passes, it does not grow while
/// others run or while the process is stopped.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}
