//! Who may connect, how many, TLS, and how slow a client may be.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::App;
use super::steady::Steady;
use crate::shell::admin_io::serve::Gate;
use crate::shell::clock;
use crate::shell::log_limit::left_out;

/// Most connections at once; more wait in the listener's queue. The descriptors are among those that
/// are kept back for other things than logins.
const CONNS_MAX: usize = 128;
/// Of one address, or of all that use paths: a quarter, so that nobody takes all of them.
const CONNS_OF_PEER: usize = 32;
/// How long a client may take for the head of a request, TLS, or have nothing to ask.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Longest head of a request. A token has 256 bytes at most, a user name some hundred.
const HEAD_MAX: usize = 16 * 1024;
/// Most header fields. Browsers send some twenty.
const FIELDS_MAX: usize = 64;
/// How long a connection may last. The page makes a new one without anybody noticing.
const LIFE: Duration = Duration::from_secs(600);
/// How long what is under way then may take: longer than any order.
const LAST_ANSWER: Duration = Duration::from_secs(90);
/// Pause after the kernel refused a connection for want of memory or descriptors.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// `None`: on a path, whose permissions have let it in.
    pub(super) ip: Option<IpAddr>,
    /// For the log.
    pub(super) text: Arc<str>,
}

/// How many connections there are.
pub(super) struct Conns {
    room: Arc<Semaphore>,
    of_peer: Mutex<HashMap<Option<IpAddr>, usize>>,
}

impl Conns {
    pub(super) fn new() -> Conns {
        Conns {
            room: Arc::new(Semaphore::new(CONNS_MAX)),
            of_peer: Mutex::default(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.of_peer.lock().values().sum()
    }

    fn add(&self, ip: Option<IpAddr>) -> bool {
        let mut of_peer = self.of_peer.lock();
        let count = of_peer.entry(ip).or_default();
        let has_room = *count < CONNS_OF_PEER;
        *count += usize::from(has_room);
        has_room
    }

    fn remove(&self, ip: Option<IpAddr>) {
        let mut of_peer = self.of_peer.lock();
        if let Some(count) = of_peer.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                of_peer.remove(&ip);
            }
        }
    }
}

/// Takes one connection's place among those of its peer back when it is over.
struct Counted(Arc<App>, Option<IpAddr>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.conns.remove(self.1);
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Stream {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Listener {
    fn new(fd: OwnedFd) -> io::Result<Listener> {
        let socket = SockRef::from(&fd);
        socket.set_nonblocking(true)?;
        match socket.local_addr()?.as_socket() {
            Some(_) => TcpListener::from_std(fd.into()).map(Listener::Tcp),
            None => UnixListener::from_std(fd.into()).map(Listener::Unix),
        }
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok(Stream::Tcp(stream, address))
            }
            Listener::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

/// Accepts from a listener, for ever.
pub(super) async fn run(app: Arc<App>, router: Router, fd: OwnedFd, gate: Gate) {
    let listener = match Listener::new(fd) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("cannot accept HTTP connections: {error}"),
    };
    loop {
        let Ok(permit) = Arc::clone(&app.conns.room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok(stream) => take(&app, &router, &gate, stream, permit),
            Err(error) => {
                app.complain(|| format!("cannot accept an HTTP connection: {error}"));
                sleep(REFUSED_PAUSE).await;
            }
        }
    }
}

fn take(
    app: &Arc<App>,
    router: &Router,
    gate: &Gate,
    stream: Stream,
    permit: OwnedSemaphorePermit,
) {
    let peer = peer_of(&stream);
    if let Some(ip) = peer.ip
        && !gate.lets_in(ip)
    {
        return app.complain(|| {
            format!(
                "HTTP connection from {ip} refused: it is in no network of the listener's allow list"
            )
        });
    }
    if !app.conns.add(peer.ip) {
        let text = &peer.text;
        return app.complain(|| {
            format!("HTTP connection of {text} refused: it has {CONNS_OF_PEER} already")
        });
    }
    let counted = Counted(Arc::clone(app), peer.ip);
    let (app, router) = (Arc::clone(app), router.clone());
    tokio::spawn(async move {
        match stream {
            Stream::Unix(stream) => serve(stream, router, peer).await,
            Stream::Tcp(stream, _) => {
                // Answers are short, and each is waited for. Only speed is lost without it.
                let _ = stream.set_nodelay(true);
                let tls = app.config.load().tls.clone();
                match tls {
                    None => serve(stream, router, peer).await,
                    Some(tls) => {
                        let accepted = TlsAcceptor::from(tls).accept(stream);
                        // Whoever has no TLS, or another idea of it, sees that itself.
                        if let Ok(Ok(stream)) = timeout(HEAD_LIMIT, accepted).await {
                            serve(stream, router, peer).await;
                        }
                    }
                }
            }
        }
        drop((counted, permit));
    });
}

fn peer_of(stream: &Stream) -> Peer {
    match stream {
        Stream::Tcp(_, address) => {
            let ip = address.ip().to_canonical();
            let text = SocketAddr::new(ip, address.port()).to_string();
            Peer {
                ip: Some(ip),
                text: text.into(),
            }
        }
        Stream::Unix(stream) => {
            let text = match stream.peer_cred() {
                Ok(peer) => format!("pid {} uid {}", peer.pid().unwrap_or(0), peer.uid()),
                Err(_) => "a path".to_owned(),
            };
            Peer {
                ip: None,
                text: text.into(),
            }
        }
    }
}

async fn serve<S>(stream: S, router: Router, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(HEAD_MAX)
        .max_headers(FIELDS_MAX)
        .serve_connection(TokioIo::new(Steady::new(stream)), service);
    tokio::pin!(connection);
    // A client that hangs up or is slow is its own business.
    if timeout(LIFE, connection.as_mut()).await.is_ok() {
        return;
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(LAST_ANSWER, connection).await;
}

impl App {
    /// What clients do wrong, in the log, but not too often.
    pub(super) fn complain(&self, text: impl FnOnce() -> String) {
        if let Some(more) = self.refused.lock().allow(clock::mono()) {
            tracing::warn!("{}{}", text(), left_out(more));
        }
    }
}
