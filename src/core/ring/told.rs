//! Users that the others are about to be told of. Those of one input go out together, which between
//! Homing directors is one line for many (docs/protocol/ring.md, between Homing directors).

use std::net::IpAddr;

use super::conn::{Conn, Conns};
use crate::core::Wall;
use crate::wire::ring::{Command, DirectorId, HOMING_USERS, HandUsers, Hash, MAX_AGE};

/// Most users that are told of together. More would make lines of one backend no cheaper: they fill
/// a line of the ring by then.
const MOST: usize = 128;
/// Bits of a hash that tell users apart; a mistake costs a line.
const MARK_BITS: u32 = 12;
const MARKS: usize = 1 << MARK_BITS;

/// A user, and whom not to tell of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct News {
    pub hash: Hash,
    pub host: IpAddr,
    pub time: Wall,
    pub except: Option<DirectorId>,
}

/// What waits to be told.
#[derive(Debug)]
pub(super) struct Told {
    news: Vec<News>,
    /// Which hashes are among them, nearly: two lines about one user must not change places.
    marks: [u64; MARKS / u64::BITS as usize],
    lines: Vec<(Option<DirectorId>, HandUsers<'static>)>,
}

impl News {
    /// Its time as lines of many users have it.
    fn seconds(&self) -> u32 {
        u32::try_from(self.time.0).unwrap_or(u32::MAX)
    }

    fn is_for(&self, conn: &Conn) -> bool {
        is_for(self.except, conn)
    }
}

fn is_for(except: Option<DirectorId>, conn: &Conn) -> bool {
    except.is_none() || conn.director != except
}

impl Default for Told {
    fn default() -> Told {
        Told {
            news: Vec::new(),
            marks: [0; _],
            lines: Vec::new(),
        }
    }
}

impl Told {
    pub(super) fn is_empty(&self) -> bool {
        self.news.is_empty()
    }

    fn mark(hash: Hash) -> (usize, u64) {
        let mark = hash.get() as usize % MARKS;
        let bits = u64::BITS as usize;
        (mark / bits, 1 << (mark % bits))
    }

    /// Whether what waits must be told before this.
    fn is_in_the_way(&self, hash: Hash) -> bool {
        let (word, bit) = Told::mark(hash);
        self.news.len() >= MOST || self.marks[word] & bit != 0
    }

    fn add(&mut self, news: News) {
        let (word, bit) = Told::mark(news.hash);
        self.marks[word] |= bit;
        self.news.push(news);
    }

    /// The users of each backend in lines of their own.
    fn gather(&mut self) {
        let times = self.news.iter().map(|news| news.seconds());
        let since = times.min().unwrap_or(0);
        for news in &self.news {
            let (hash, time) = (news.hash, news.seconds());
            let mut lines = self.lines.iter_mut().rev();
            let line =
                lines.find(|(except, line)| *except == news.except && line.host == news.host);
            if line.is_some_and(|(_, line)| line.push(hash, time)) {
                continue;
            }
            // One that is older than others by hours begins its own.
            let since = match time - since {
                0..=MAX_AGE => since,
                _ => time,
            };
            let mut line = HandUsers::new(news.host, since);
            line.push(hash, time);
            self.lines.push((news.except, line));
        }
    }

    fn clear(&mut self) {
        self.news.clear();
        self.lines.clear();
        self.marks.fill(0);
    }
}

impl Conns {
    /// Everybody is to hear of a user: with others, but before anything else is written.
    pub(super) fn tell(&mut self, news: News, ring: u32) {
        if self.told.is_in_the_way(news.hash) {
            self.tell_news(ring);
        }
        self.told.add(news);
    }

    /// Writes what waits to be told.
    pub(super) fn tell_news(&mut self, ring: u32) {
        if self.told.is_empty() {
            return;
        }
        let mut told = std::mem::take(&mut self.told);
        let takes_many = |conn: &Conn| conn.takes(0, HOMING_USERS);
        if self.map.values().any(takes_many) {
            told.gather();
            for (except, users) in &told.lines {
                let command = Command::Users(users.borrowed());
                self.write_to(|conn| is_for(*except, conn), &command, ring);
            }
        }
        if !self.map.values().all(takes_many) {
            for news in &told.news {
                let command = Command::User {
                    hash: news.hash,
                    host: news.host,
                    time: Some(news.time.0),
                };
                let wanted = |conn: &Conn| !takes_many(conn) && news.is_for(conn);
                self.write_to(wanted, &command, ring);
            }
        }
        told.clear();
        self.told = told;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::core::Mono;
    use crate::core::ring::ConnId;
    use crate::wire::ring::{MINOR, Role};

    const TIME: u64 = 1_790_000_000;

    fn host(n: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))
    }

    fn news(hash: u32, on: u8, time: u64) -> News {
        News {
            hash: Hash::new(hash).unwrap(),
            host: host(on),
            time: Wall(time),
            except: None,
        }
    }

    /// What a Homing director is written.
    fn written(all: &[News]) -> Vec<String> {
        let mut conns = Conns::default();
        let mut conn = Conn::new(Role::Acceptor, host(99), None, Mono(0));
        (conn.greeted, conn.peer_minor, conn.homing) = (true, MINOR, HOMING_USERS);
        conns.map.insert(ConnId(1), conn);
        for &news in all {
            conns.tell(news, MINOR);
        }
        conns.tell_news(MINOR);
        assert!(conns.told.is_empty() && conns.told.marks.iter().all(|&word| word == 0));
        let out = conns.map.remove(&ConnId(1)).unwrap().out;
        let text = String::from_utf8(out).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn each_backend_has_a_line() {
        let lines = written(&[news(1, 1, TIME + 2), news(2, 2, TIME), news(3, 1, TIME + 1)]);
        assert_eq!(
            lines,
            [
                format!("USERS\t10.0.0.1\t{TIME}\t\"!!!!#!$!!!!\"!"),
                format!("USERS\t10.0.0.2\t{TIME}\t#!!!!!!"),
            ]
        );
    }

    #[test]
    fn what_is_said_last_of_a_user_comes_last() {
        let lines = written(&[news(1, 1, TIME), news(2, 2, TIME), news(1, 2, TIME)]);
        let hosts = |line: &String| line.split('\t').nth(1).unwrap().to_owned();
        let hosts: Vec<String> = lines.iter().map(hosts).collect();
        assert_eq!(hosts, ["10.0.0.1", "10.0.0.2", "10.0.0.2"]);
    }

    #[test]
    fn times_that_are_hours_apart_do_not_share_a_line() {
        let far = TIME + u64::from(MAX_AGE) + 1;
        let lines = written(&[news(1, 1, far), news(2, 1, TIME), news(3, 1, far)]);
        assert_eq!(lines.len(), 3);
        let lines = written(&[news(1, 1, u64::MAX)]);
        assert_eq!(lines.len(), 1, "a time that no line can hold is cut");
    }
}
