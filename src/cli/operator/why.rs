//! Why a user is where it is.

use super::args::WhyArgs;
use super::client::Client;
use super::failure::{Failure, Outcome};
use super::output;
use super::place::Source;
use super::{Done, users};
use crate::admin::documents::{Whom, Why, tags};
use crate::admin::plan::Rings;
use crate::wire::admin::User;

/// Tells it.
pub(super) fn run(args: &WhyArgs) -> Done {
    let source = Source::new(&args.common);
    let template = source.template(&args.hash)?;
    let hash = template.hash(args.user.as_bytes(), &mut Vec::new()).0;
    // Only the settings of this director say how long its users stay.
    let stay = source
        .settings()?
        .map(|it| u64::from(it.director_user_expire));
    let mut client = Client::connect(source.place()?)?;
    let hosts = client.hosts()?;
    let tags = match &args.tag {
        Some(tag) => vec![tag.as_bytes().to_vec()],
        None => tags(&hosts),
    };
    let rings = Rings::new(&hosts).map_err(Failure::temporary)?;
    let mut found = Vec::new();
    for tag in &tags {
        let user = User::Hash(hash);
        let (row, facts) = users::explained(&mut client, user, tag, true)?;
        let whom = Whom {
            user: &args.user,
            hash,
            tag,
        };
        found.push(Why::of(whom, &row, facts, &hosts, &rings, stay));
    }
    // A user that is nowhere is told about under all tags; one that is somewhere, only there.
    if args.tag.is_none() && found.iter().any(|why| why.current.is_some()) {
        found.retain(|why| why.current.is_some());
    }
    match args.common.json {
        true => output::json(&found)?,
        false => {
            let text: Vec<_> = found.iter().map(text).collect();
            output::print(&text.join("\n"))?;
        }
    }
    Ok(Outcome::default())
}

/// Lines of name and value for people.
fn text(why: &Why) -> String {
    let state = why.current_state.unwrap_or("no longer in the list");
    let vhosts = why.current_vhosts.map(|it| format!(", {it} vhosts"));
    let current = match &why.current {
        Some(ip) => format!("{ip} ({state}{})", vhosts.unwrap_or_default()),
        None => "nowhere".to_owned(),
    };
    let place = |ip: &Option<String>| ip.clone().unwrap_or_else(|| "nowhere".to_owned());
    let mut pairs = vec![
        ("user", why.user.clone()),
        ("hash", why.hash.to_string()),
        (
            "tag",
            if why.tag.is_empty() {
                "none".to_owned()
            } else {
                why.tag.clone()
            },
        ),
        ("current", current),
    ];
    pairs.extend(
        why.last_refresh
            .map(|it| ("last refresh", output::time(it))),
    );
    pairs.extend(why.expires.map(|it| ("expires", output::time(it))));
    pairs.push(("hash ring", place(&why.hashed)));
    pairs.push(("initial config", place(&why.initial_config)));
    let extra = why
        .extra
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()));
    pairs.extend(extra);
    pairs.push(("why", why.reason.to_owned()));
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): (&str, String)| {
        let name = output::safe(&format!("{name}:"));
        format!("{name:<0$} {1}\n", width + 1, output::safe(&value))
    };
    pairs.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_what_is_known() {
        let mut why = Why {
            user: "alice".to_owned(),
            hash: 7,
            current: Some("10.0.0.1".to_owned()),
            current_state: Some("down"),
            current_vhosts: Some(100),
            reason: "so",
            ..Why::default()
        };
        assert_eq!(
            text(&why),
            "user:           alice\n\
             hash:           7\n\
             tag:            none\n\
             current:        10.0.0.1 (down, 100 vhosts)\n\
             hash ring:      nowhere\n\
             initial config: nowhere\n\
             why:            so\n"
        );
        why.extra = vec![("state".to_owned(), "mo\u{1b}ves".to_owned())];
        assert!(text(&why).contains("state:          mo\u{fffd}ves\n"));
    }
}
