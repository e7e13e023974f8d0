//! Sockets and times: takes connections, reads one head from each, has it
//! answered, and closes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use super::answer::{self, Site};
use super::request::{HttpRequest, RequestRefusal};
use super::slots::{Id, RequestKind, Slots};
use crate::config::Bind;
use crate::limits;
use crate::reactor::{self, TcpListener, TcpStream, Timer};

/// From one attempt to listen to the next.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// The open connections and the slots that they have.
#[derive(Default)]
struct Floor {
    slots: RefCell<Slots>,
    streams: RefCell<BTreeMap<Id, Rc<TcpStream>>>,
}

/// Serves until it is dropped. If the port is in use, it logs that once and
/// retries: the vote does not need us.
pub async fn serve(site: Rc<Site>, bind: Bind) {
    let listener = listen(&bind).await;
    let floor = Rc::new(Floor::default());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let guest = Guest::enter(&floor, stream);
                let site = site.clone();
                reactor::spawn(async move { serve_one(&site, &guest).await }).detach();
            }
            Err(error) => {
                site.report_accept(&error);
                Timer::after(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn listen(bind: &Bind) -> TcpListener {
    let mut reported = false;
    loop {
        match try_listen(bind).await {
            Ok((listener, at)) => {
                log::info!("http: the status is at http://{at}/");
                return listener;
            }
            Err(error) => {
                if !std::mem::replace(&mut reported, true) {
                    log::warn!(
                        "http: no status is served; retrying: cannot listen on {bind}: {error}"
                    );
                }
                Timer::after(LISTEN_AGAIN).await;
            }
        }
    }
}

async fn try_listen(bind: &Bind) -> io::Result<(TcpListener, SocketAddr)> {
    let found = reactor::resolve(&bind.host, bind.port).await?;
    let address = found.into_iter().next().ok_or(io::ErrorKind::NotFound)?;
    let listener = TcpListener::bind(address)?;
    let at = listener.local_addr()?;
    Ok((listener, at))
}

/// An open connection.
struct Guest {
    floor: Rc<Floor>,
    id: Id,
    stream: Rc<TcpStream>,
}

impl Guest {
    /// Takes a connection, and closes another one if there are too many.
    fn enter(floor: &Rc<Floor>, stream: TcpStream) -> Self {
        let stream = Rc::new(stream);
        let (id, evicted) = floor.slots.borrow_mut().open();
        let mut streams = floor.streams.borrow_mut();
        streams.insert(id, stream.clone());
        if let Some(evicted) = evicted.and_then(|id| streams.remove(&id)) {
            evicted.shutdown(Shutdown::Both);
        }
        Self {
            floor: floor.clone(),
            id,
            stream,
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.floor.slots.borrow_mut().close(self.id);
        self.floor.streams.borrow_mut().remove(&self.id);
    }
}

/// The future's result, unless it takes too long.
async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    smol::future::or(async { Some(future.await) }, async {
        Timer::after(limit).await;
        None
    })
    .await
}

async fn serve_one(site: &Rc<Site>, guest: &Guest) {
    let stream = &*guest.stream;
    stream.set_nodelay();
    let head = within(limits::HTTP_HEAD_TIME_MAX, read_head(stream)).await;
    let answer = async {
        match head {
            Some(Ok(request)) => answer_one(site, guest, &request).await,
            Some(Err(Some(refusal))) => answer::refuse(refusal, true, stream).await,
            // Gone, evicted, or too slow (slowloris): nothing is owed.
            Some(Err(None)) | None => Ok(()),
        }
    };
    let done = within(limits::HTTP_ANSWER_TIME_MAX, answer).await;
    guest.floor.slots.borrow_mut().finish(guest.id);
    if matches!(done, Some(Ok(()))) {
        // What the client still sends would reset the connection, and with it
        // the end of our answer.
        stream.shutdown(Shutdown::Write);
        let mut rest = [0; 512];
        let drain = async { while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {} };
        within(limits::HTTP_LINGER_MAX, drain).await;
    }
}

/// Answers, if there is a slot for what is asked.
async fn answer_one(site: &Rc<Site>, guest: &Guest, request: &HttpRequest) -> io::Result<()> {
    let kind = RequestKind::of(&request.path);
    let begun = guest.floor.slots.borrow_mut().begin(guest.id, kind);
    if begun {
        answer::answer(site, request, &guest.stream).await
    } else {
        site.report_busy();
        answer::refuse(
            RequestRefusal::Busy,
            request.method != "HEAD",
            &guest.stream,
        )
        .await
    }
}

/// Reads until the head is whole. Its body, if it has one, means nothing here.
async fn read_head(stream: &TcpStream) -> Result<HttpRequest, Option<RequestRefusal>> {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 1024];
        let count = stream.read(&mut part).await.map_err(|_| None)?;
        if count == 0 {
            return Err(None);
        }
        bytes.extend_from_slice(part.get(..count).unwrap_or_default());
        // Parsed anew each time, at most HTTP_HEAD_BYTES_MAX / 1 times: so only
        // once a line has ended.
        let ended = bytes
            .windows(2)
            .any(|pair| pair == b"\n\r" || pair == b"\n\n");
        if ended || bytes.len() > limits::HTTP_HEAD_BYTES_MAX {
            match HttpRequest::parse(&bytes) {
                Ok(Some(request)) => return Ok(request),
                Ok(None) if bytes.len() <= limits::HTTP_HEAD_BYTES_MAX => {}
                Ok(None) => return Err(Some(RequestRefusal::Malformed)),
                Err(refusal) => return Err(Some(refusal)),
            }
        }
    }
}
