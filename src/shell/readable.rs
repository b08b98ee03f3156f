//! Waiting, inside a glommio task, until a descriptor that is not a glommio socket can be read.

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd};

use futures_lite::AsyncReadExt;
use glommio::net::UnixStream;

use super::epoll::{Epoll, Interest};

/// Returns when `fd` is readable. It may be anything that can be polled and is no socket: an epoll
/// instance, an eventfd. For a socket see [`socket_readable`].
///
/// glommio has no call for that. Its streams, however, begin with a poll of the descriptor in the
/// ring, and only then read; on a descriptor that is no socket the read fails, which is the
/// wake-up wanted here. From a packet socket it would take the packet, and drop it. This leans on
/// the pinned version of glommio, and is tested below.
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

/// [`readable`] for a socket, of which nothing is taken: it is watched through an epoll instance.
///
/// # Errors
/// Out of descriptors.
pub async fn socket_readable(fd: BorrowedFd<'_>) -> std::io::Result<()> {
    let epoll = Epoll::new()?;
    epoll.add(fd, 0, Interest::Readable)?;
    readable(epoll.as_fd()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::clock;
    use crate::shell::epoll::Wake;
    use glommio::timer::Timer;
    use glommio::{LocalExecutorBuilder, Placement};
    use std::os::fd::AsRawFd;
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

    #[test]
    fn a_packet_is_still_there_after_the_wait_for_it() {
        use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType};
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(0)
            .make()
            .unwrap();
        executor.run(async {
            let (ours, theirs) = nix::sys::socket::socketpair(
                AddressFamily::Unix,
                SockType::SeqPacket,
                None,
                SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            )
            .unwrap();
            for already_there in [true, false] {
                let sender = theirs.try_clone().unwrap();
                let send = move || {
                    nix::sys::socket::send(sender.as_raw_fd(), b"made 0", MsgFlags::empty())
                        .unwrap()
                };
                if already_there {
                    send();
                } else {
                    glommio::spawn_local(async move {
                        Timer::new(Duration::from_millis(20)).await;
                        send();
                    })
                    .detach();
                }
                socket_readable(ours.as_fd()).await.unwrap();
                let mut bytes = [0; 16];
                let length =
                    nix::sys::socket::recv(ours.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT);
                assert_eq!(length, Ok(6), "the packet was taken by the wait");
            }
        });
    }
}
