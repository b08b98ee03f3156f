//! systemd's watchdog: it hears that the director lives only while every thread that logins depend on
//! answers. A process of which one core hangs serves the others and looks well from outside; systemd ends
//! it then and starts it again, and sessions live on meanwhile.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::bounded;
use glommio::timer::Timer;

use super::cores::Cores;
use super::mailbox::Mailbox;
use super::ring_io::serve as ring;
use super::systemd;

/// How often it is told within the time it waits: one that is late does no harm.
const TIMES: u32 = 3;

/// Who must answer.
pub struct Watchdog {
    /// The serving cores.
    pub cores: Arc<Cores>,
    /// The thread of the director ring.
    pub ring: Arc<Mailbox<ring::Message>>,
}

impl Watchdog {
    /// Tells systemd for as long as it asks to be told; `stopped`: the process ends, where threads end one after the other.
    pub async fn watch(self, stopped: impl Fn() -> bool) {
        let Some(waits) = systemd::watchdog() else {
            return;
        };
        let this = Arc::new(self);
        while !stopped() {
            Timer::new(waits / TIMES).await;
            let asked = Arc::clone(&this);
            // Nobody may hang because somebody else does.
            let silent = glommio::executor()
                .spawn_blocking(move || asked.silent(waits / TIMES))
                .await;
            match silent {
                None => {
                    // Nothing can be done when systemd does not listen; it will do something.
                    let _ = systemd::notify("WATCHDOG=1");
                }
                Some(_) if stopped() => {}
                Some(who) => tracing::error!(
                    "{who} does not answer; if that goes on, systemd ends this process after \
                     {} s of it (WatchdogSec=)",
                    waits.as_secs()
                ),
            }
        }
    }

    /// Who does not answer within `limit`.
    fn silent(&self, limit: Duration) -> Option<String> {
        if let Some(core) = self.cores.silent(limit) {
            return Some(format!("core {core}"));
        }
        let (sender, receiver) = bounded(1);
        self.ring.send(ring::Message::Summary(sender));
        match receiver.recv_timeout(limit) {
            Ok(_) => None,
            Err(_) => Some("the thread of the director ring".to_owned()),
        }
    }
}
