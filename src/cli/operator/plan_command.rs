//! The command `plan`: asks the director for its lists, and says what would move.

use std::net::IpAddr;

use super::args::{PlanArgs, PlanCommand};
use super::failure::{Failure, Outcome};
use super::output::{self, Table, lossy};
use super::place::{Common, addresses};
use super::{Done, connect};
use crate::admin::documents;
use crate::admin::plan::{self, Change, Flow, Plan, Refused};
use crate::core::ip_text::ip_text;
use crate::wire::admin::{Command, MAX_VHOSTS, read};

/// Plans one of the changes.
pub(super) fn run(args: &PlanArgs) -> Done {
    match &args.command {
        PlanCommand::Add(args) => {
            let tag = args.tag.as_deref().filter(|tag| !tag.is_empty());
            let change = Change::Add {
                tag: tag.map(|tag| tag.as_bytes().to_vec()),
                vhosts: args.vhost_count,
            };
            show(&args.common, &args.host, "add", args.vhost_count, &change)
        }
        PlanCommand::Update(args) => {
            let vhosts = args.vhost_count;
            let change = Change::Update(vhosts);
            show(&args.common, &args.host, "update", Some(vhosts), &change)
        }
        PlanCommand::Up(args) => show(&args.common, &args.host, "up", None, &Change::Up),
        PlanCommand::Down(args) => show(&args.common, &args.host, "down", None, &Change::Down),
        PlanCommand::Remove(args) => {
            show(&args.common, &args.host, "remove", None, &Change::Remove)
        }
    }
}

fn show(
    common: &Common,
    host: &str,
    word: &'static str,
    vhosts: Option<u32>,
    change: &Change,
) -> Done {
    if let Some(vhosts) = vhosts.filter(|vhosts| *vhosts > MAX_VHOSTS) {
        let what = format!("{vhosts} vhosts are too many: directors take at most {MAX_VHOSTS}");
        return Err(Failure::temporary(what));
    }
    let ips = addresses(host)?;
    let mut client = connect(common)?;
    let now = client.hosts()?;
    let users = client.rows(&Command::UserList(None), read::user)?;
    let mut then = now.clone();
    for &ip in &ips {
        then = plan::changed(&then, ip, change).map_err(|refused| match refused {
            Refused::Unknown => Failure::not_found(format!(
                "{}: doesn't exist: `homing status` shows the backends",
                ip_text(ip)
            )),
            Refused::Not(what) => Failure::temporary(what),
        })?;
    }
    let plan = plan::plan(&now, &then, &users).map_err(Failure::temporary)?;
    let names: Vec<_> = ips.into_iter().map(ip_text).collect();
    if common.json {
        output::json(&documents::Plan::of(word, names, vhosts, &plan))?;
    } else {
        let vhosts = vhosts.map(|it| format!(" with {it} vhosts"));
        let title = format!("{word} {}{}", names.join(" "), vhosts.unwrap_or_default());
        output::print(&text(&title, &plan, output::terminal()))?;
    }
    Ok(Outcome::default())
}

/// A plan for people.
fn text(title: &str, plan: &Plan, room: Option<usize>) -> String {
    let total = |flows: &[Flow]| flows.iter().map(|flow| flow.users).sum::<u64>();
    let mut out = format!("Plan: {title}. Nothing was changed.\n\n");
    out += &loads(plan).render(room);
    let (later, active) = (total(&plan.placement), plan.active);
    out += &format!(
        "\nNew users would go elsewhere, and {later} of {active} active ones once they have expired:\n"
    );
    out += &flows(&plan.placement, true, room);
    let (moved, today) = (total(&plan.flush), plan.flush_today);
    out += &format!(
        "\nActive users stay where they are until they expire. Of {active} a flush of all backends after the \
         change\nwould move {moved}; without the change it would move {today}:\n"
    );
    out += &flows(&plan.flush, false, room);
    if !plan.forgotten.is_empty() {
        out += &format!(
            "\nAt once {} active users would be forgotten, with their sessions left as they are; at \
             their next login\nthey would go to:\n",
            total(&plan.forgotten)
        );
        out += &flows(&plan.forgotten, false, room);
    }
    out
}

fn loads(plan: &Plan) -> Table {
    let mut table = Table::new(&[
        "backend",
        "tag",
        "new users#",
        "then#",
        "active users#",
        "after a flush#",
    ]);
    for load in &plan.loads {
        table.row([
            ip_text(load.ip),
            lossy(&load.tag),
            percent(load.share),
            percent(load.share_after),
            load.users.to_string(),
            load.flushed.to_string(),
        ]);
    }
    table
}

fn flows(flows: &[Flow], is_placement: bool, room: Option<usize>) -> String {
    if flows.is_empty() {
        return "(nobody)\n".to_owned();
    }
    let name = |ip: Option<IpAddr>| ip.map_or_else(|| "nowhere".to_owned(), ip_text);
    let both = |flow: &Flow| [name(flow.from), name(flow.to), lossy(&flow.tag)];
    let table = if is_placement {
        let mut table = Table::new(&["from", "to", "tag", "new users#", "of the active#"]);
        for flow in flows {
            let [from, to, tag] = both(flow);
            table.row([from, to, tag, percent(flow.share), flow.users.to_string()]);
        }
        table
    } else {
        let mut table = Table::new(&["from", "to", "tag", "active users#"]);
        for flow in flows {
            let [from, to, tag] = both(flow);
            table.row([from, to, tag, flow.users.to_string()]);
        }
        table
    };
    table.render(room)
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::plan::Load;

    fn flow(to: Option<IpAddr>, users: u64, share: f64) -> Flow {
        Flow {
            from: Some(IpAddr::from([10, 0, 0, 1])),
            to,
            tag: Vec::new(),
            users,
            share,
        }
    }

    #[test]
    fn a_plan_says_what_moves_when() {
        let to = Some(IpAddr::from([10, 0, 0, 2]));
        let plan = Plan {
            active: 9,
            loads: vec![Load {
                ip: IpAddr::from([10, 0, 0, 1]),
                tag: b"t".to_vec(),
                users: 9,
                flushed: 4,
                share: 1.0,
                share_after: 0.5,
            }],
            placement: vec![flow(to, 3, 0.5)],
            flush: vec![flow(to, 4, 0.0), flow(None, 1, 0.0)],
            flush_today: 2,
            forgotten: Vec::new(),
        };
        let said = text("add 10.0.0.2", &plan, None);
        assert_eq!(
            said,
            "Plan: add 10.0.0.2. Nothing was changed.\n\n\
             backend   tag  new users     then  active users  after a flush\n\
             10.0.0.1  t     100.00 %  50.00 %             9              4\n\n\
             New users would go elsewhere, and 3 of 9 active ones once they have expired:\n\
             from      to        tag  new users  of the active\n\
             10.0.0.1  10.0.0.2  -      50.00 %              3\n\n\
             Active users stay where they are until they expire. Of 9 a flush of all backends after the change\n\
             would move 5; without the change it would move 2:\n\
             from      to        tag  active users\n\
             10.0.0.1  10.0.0.2  -               4\n\
             10.0.0.1  nowhere   -               1\n"
        );
        let quiet = Plan {
            flush: Vec::new(),
            forgotten: vec![flow(to, 7, 0.0)],
            ..plan
        };
        let said = text("remove 10.0.0.1", &quiet, None);
        assert!(said.contains("would move 0; without the change it would move 2:\n(nobody)\n"));
        assert!(said.contains("At once 7 active users would be forgotten"));
    }
}
