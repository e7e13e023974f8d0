//! The page while there is no witness to serve it: the same site without a
//! cluster, with what the machine has to say, read-only and for everybody.

use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_channel::oneshot::{Receiver, Sender, channel};

use crate::config::{HttpConfig, ProbeConfig, appliance};
use crate::http::answer::Site;
use crate::http::server;
use crate::member::liveness::Vitals;
use crate::probe::Prober;
use crate::reactor;

/// A page that is served until it is dropped; its port is free then.
pub struct Page {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Page {
    /// Serves it, unless no thread is to be had.
    pub fn serve(probe: ProbeConfig) -> Self {
        let (end, ended) = channel();
        let thread = thread::Builder::new().name("page".into());
        let thread = thread.spawn(move || serve(&appliance::page(), &probe, ended));
        if let Err(error) = &thread {
            log::warn!("no page: {error}");
        }
        Self {
            end: Some(end),
            thread: thread.ok(),
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // It waits for nothing but its end.
            let _ = thread.join();
        }
    }
}

fn serve(config: &HttpConfig, probe: &ProbeConfig, ended: Receiver<()>) {
    let prober = Prober::new(probe);
    let vitals = Rc::new(Vitals::default());
    let site = Site::new(
        config,
        Vec::new(),
        (prober, Duration::ZERO),
        Vec::new,
        vitals,
    );
    let serving = server::serve(Rc::new(site), config.listen.clone());
    reactor::block_on(smol::future::or(serving, async {
        let _ = ended.await;
    }));
}
