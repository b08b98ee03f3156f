//! Waiting, inside a glommio task, until a descriptor that is not a glommio socket can be read.

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd};

use futures_lite::AsyncReadExt;
use glommio::net::UnixStream;

/// Returns when `fd` is readable. It may be anything that can be polled: an epoll instance, an
/// eventfd, a packet socket.
///
/// glommio has no call for that. Its streams, however, begin with a poll of the descriptor in the
/// ring, and only then read; on a descriptor that is no stream socket the read fails, which is the
/// wake-up wanted here. A packet socket is only looked at with an empty buffer. This leans on the
/// pinned version of glommio, and is tested below.
///
/// # Errors
/// Out of descriptors.
pub async fn readable(fd: BorrowedFd<'_>) -> std::io::Result<()> {
    let own = fd.as_fd().try_clone_to_owned()?.into_raw_fd();
    // SAFETY: `own` was just duplicated and given up; the stream closes it.
    let mut stream = unsafe { UnixStream::from_raw_fd(own) };
    let _ = stream.read(&mut []).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::clock;
    use crate::shell::epoll::{Epoll, Interest, Wake};
    use glommio::timer::Timer;
    use glommio::{LocalExecutorBuilder, Placement};
    use std::rc::Rc;
    use std::time::Duration;

    #[test]
    fn waits_for_an_epoll_instance_and_not_longer() {
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(0)
            .make()
            .unwrap();
        executor.run(async {
            let wake = Rc::new(Wake::new().unwrap());
            let epoll = Epoll::new().unwrap();
            epoll.add(wake.as_fd(), 0, Interest::Readable).unwrap();
            for fd in [epoll.as_fd(), wake.as_fd()] {
                let later = Rc::clone(&wake);
                let start = clock::mono();
                glommio::spawn_local(async move {
                    Timer::new(Duration::from_millis(60)).await;
                    later.wake();
                })
                .detach();
                readable(fd).await.unwrap();
                assert!(clock::mono().since(start) >= 50_000_000, "it did not wait");
                wake.clear();
            }
        });
    }
}
