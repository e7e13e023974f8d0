//! Who proposed a command here, and the promise that each is answered once.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use crate::wire::message::{ApplyError, ApplyOutcome};

type ApplyCallback = Box<dyn FnOnce(ApplyOutcome)>;

/// The proposer of a command. It is told once what became of the proposal: the
/// entry it was appended as, or why it was refused. A proposal that is dropped
/// unanswered, by an engine that is no leader any more, is refused as such.
#[derive(Clone)]
pub struct Responder(Rc<RefCell<Option<ApplyCallback>>>);

impl Responder {
    /// A proposer who is told by `answer`.
    pub fn new(answer: impl FnOnce(ApplyOutcome) + 'static) -> Self {
        Self(Rc::new(RefCell::new(Some(Box::new(answer)))))
    }

    /// Tells the proposer; only the first call does.
    pub fn answer(&self, outcome: ApplyOutcome) {
        let answer = self.0.borrow_mut().take();
        if let Some(answer) = answer {
            answer(outcome);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if Rc::strong_count(&self.0) == 1 {
            self.answer(ApplyOutcome::Refused(ApplyError::NotLeader));
        }
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder")
    }
}
