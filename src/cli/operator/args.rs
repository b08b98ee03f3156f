//! The command lines. Arguments as `doveadm director` has them, options besides.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand};

use super::failure::Failure;
use super::place::{Common, HashArgs};

/// Most vhosts that can be said; the next number means "not given" in the protocol
/// (docs/protocol/admin.md, commands). The director has its own limit, 1000.
const MAX_SAID: i64 = 0xffff_fffe;

/// Commands for operators.
#[derive(Subcommand, Debug)]
pub(in crate::cli) enum OperatorCommand {
    /// Show the backends; or, with USER, where a user is and would go.
    Status(StatusArgs),
    /// Show which users are on which backend.
    #[command(disable_help_flag = true)]
    Map(MapArgs),
    /// Add a backend, or change the vhosts of one.
    Add(AddArgs),
    /// Change the vhosts of a backend. With 0 it gets no new users.
    Update(UpdateArgs),
    /// Let a backend get new users again.
    Up(HostArgs),
    /// Give a backend no new users; those that it has stay until they are flushed or expire.
    Down(HostArgs),
    /// Remove a backend. Its users are forgotten at once, their sessions go on.
    Remove(HostArgs),
    /// Move one user to a backend.
    Move(MoveArgs),
    /// End a user's sessions.
    Kick(KickArgs),
    /// Move the users of a backend to where they belong.
    Flush(FlushArgs),
    /// Have the users of a backend leave it gradually. It gets no new ones: its vhosts become 0.
    Drain(DrainArgs),
    /// Print all backends in a form that `restore` reads.
    Dump(DumpArgs),
    /// Bring back the backends that `dump` printed.
    Restore(RestoreArgs),
    /// The directors of the ring.
    Ring(RingArgs),
    /// Say what a change of backends would move, without making it.
    Plan(PlanArgs),
    /// Say why a user is where it is.
    Why(WhyArgs),
    /// Show how long lookups took, and how long they waited for what.
    Histogram(HistogramArgs),
}

#[derive(Args, Debug)]
pub(in crate::cli) struct StatusArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// A user's login name. A number is taken for a user hash, as by doveadm.
    user: Option<String>,
    /// Only this tag, as with -t.
    #[arg(conflicts_with = "tag_option", value_name = "TAG")]
    tag: Option<String>,
    /// Look the user up under this tag only; "" is no tag [default: all tags].
    #[arg(short = 't', long = "tag", value_name = "TAG", requires = "user")]
    tag_option: Option<String>,
}

impl StatusArgs {
    /// The user and its tag, if a user was named.
    pub(super) fn user(&self) -> Result<Option<(&str, Option<&str>)>, Failure> {
        let tag = self.tag_option.as_deref().or(self.tag.as_deref());
        match self.user.as_deref() {
            Some("") => Err(Failure::usage("the user's name is empty")),
            user => Ok(user.map(|user| (user, tag))),
        }
    }
}

#[derive(Args, Debug)]
pub(in crate::cli) struct MapArgs {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) hash: HashArgs,
    /// User names, one on each line; - is standard input [default: those that auth lists].
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(super) users_file: Option<PathBuf>,
    /// Print the names with this user hash.
    #[arg(short = 'h', long, value_name = "HASH", conflicts_with_all = ["user_map", "host"])]
    pub(super) hash_map: Option<u32>,
    /// Print the hash of this user; no director is asked.
    #[arg(short = 'u', long, value_name = "USER", conflicts_with = "host")]
    pub(super) user_map: Option<String>,
    /// Only users on this backend.
    pub(super) host: Option<String>,
    /// Print help; -h is --hash-map, as in doveadm.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct AddArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Tag of a new backend; a known one keeps its own.
    #[arg(short, long)]
    pub(super) tag: Option<String>,
    /// Address or host name, which stands for all of its addresses.
    pub(super) host: String,
    /// Its weight [default: 100 for a new one, unchanged for a known one].
    #[arg(value_parser = clap::value_parser!(u32).range(0..=MAX_SAID))]
    pub(super) vhost_count: Option<u32>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct UpdateArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Address or host name, which stands for all of its addresses.
    pub(super) host: String,
    /// Its new weight.
    #[arg(value_parser = clap::value_parser!(u32).range(0..=MAX_SAID))]
    pub(super) vhost_count: u32,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct HostArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Address or host name, which stands for all of its addresses.
    pub(super) host: String,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct MoveArgs {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) hash: HashArgs,
    /// Login name.
    pub(super) user: String,
    /// The backend; of a name with several addresses the first.
    pub(super) host: String,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct KickArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// USER is the value of this passdb field, not the login name.
    #[arg(short = 'f', long, value_name = "FIELD")]
    pub(super) passdb_field: Option<String>,
    /// Login name, exactly as the login processes know it.
    pub(super) user: String,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct FlushArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Only forget the users: no kicks, no flush script. Their old sessions go on beside new ones on
    /// other backends.
    #[arg(short = 'F', long)]
    pub(super) force_flush: bool,
    /// Most users that move at a time [default: director_max_parallel_moves].
    #[arg(long, value_name = "N", conflicts_with = "force_flush")]
    pub(super) max_parallel: Option<NonZeroU32>,
    /// Address, host name, or all.
    pub(super) host: String,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct DrainArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Users that leave in a second; of a backend that is being drained, from now on.
    #[arg(long, value_name = "N", value_parser = super::drain::rate)]
    pub(super) rate: Option<NonZeroU32>,
    /// Wait until no user is left. The drain goes on if this is interrupted.
    #[arg(long)]
    pub(super) wait: bool,
    /// End the drain, and give the backend the vhosts that it had before.
    #[arg(long, conflicts_with_all = ["rate", "wait"])]
    pub(super) cancel: bool,
    /// Show the drain of HOST, or all.
    #[arg(long, conflicts_with_all = ["rate", "wait", "cancel"])]
    pub(super) status: bool,
    /// Address or host name, which stands for all of its addresses.
    #[arg(required_unless_present = "status")]
    pub(super) host: Option<String>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct DumpArgs {
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct RestoreArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// What `homing dump` printed; - is standard input.
    #[arg(default_value = "-")]
    pub(super) file: PathBuf,
    /// Only say what would be done.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Remove the backends that the dump does not have.
    #[arg(long)]
    pub(super) remove_others: bool,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct RingArgs {
    #[command(subcommand)]
    pub(super) command: RingCommand,
}

#[derive(Subcommand, Debug)]
pub(super) enum RingCommand {
    /// Show the directors and the connections to them.
    Status(RingStatusArgs),
    /// Add a director to the ring.
    Add(DirectorArgs),
    /// Remove a director from the ring.
    Remove(DirectorArgs),
}

#[derive(Args, Debug)]
pub(super) struct RingStatusArgs {
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Args, Debug)]
pub(super) struct DirectorArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Its address; no name.
    pub(super) ip: String,
    /// Its ring port [default: to add, the same as that of the director that is asked; to remove, the
    /// first that there is].
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) port: Option<u16>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct PlanArgs {
    #[command(subcommand)]
    pub(super) command: PlanCommand,
}

#[derive(Subcommand, Debug)]
pub(super) enum PlanCommand {
    /// Plan `add`.
    Add(AddArgs),
    /// Plan `update`.
    Update(UpdateArgs),
    /// Plan `up`.
    Up(HostArgs),
    /// Plan `down`.
    Down(HostArgs),
    /// Plan `remove`.
    Remove(HostArgs),
}

#[derive(Args, Debug)]
pub(in crate::cli) struct WhyArgs {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) hash: HashArgs,
    /// Login name.
    pub(super) user: String,
    /// Only this tag; "" is no tag [default: all tags].
    #[arg(short, long)]
    pub(super) tag: Option<String>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct HistogramArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Only these: login, userdb, authreply, "weak user" and so on; sockets or delays are all of a kind.
    #[arg(value_name = "NAME")]
    pub(super) names: Vec<String>,
    /// Only lookups of this serving core, from 0 on.
    #[arg(long, value_name = "CORE")]
    pub(super) core: Option<u32>,
    /// Each serving core by itself.
    #[arg(long, conflicts_with_all = ["core", "hgrm"])]
    pub(super) by_core: bool,
    /// Only lookups of the next so many seconds [default: all since the director started].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(super) seconds: Option<u32>,
    /// Print one percentile distribution for HdrHistogram's plotter, in microseconds: of what NAME says
    /// together [default: sockets].
    #[arg(long, conflicts_with = "json")]
    pub(super) hgrm: bool,
}
