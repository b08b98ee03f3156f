//! The description of the JSON interface (OpenAPI 3.1), made of the table of routes and of the very
//! types that are answered with.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::problem::{MEDIA_TYPE, Problem};
use super::routes::{Answers, ROUTES, Route};
use super::tokens::Role;

const DESCRIPTION: &str = "Everything that the command line of Homing does. Addresses are those of \
    backends or directors, times are seconds since 1970. A path component is one user name or \
    address, percent-encoded. Over TCP each request needs a bearer token; over a unix socket the \
    permissions of its path decide, and a token only narrows what may be done.";

/// The whole document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut answers = settings.clone().for_serialize().into_generator();
    let mut bodies = settings.for_deserialize().into_generator();
    let problem = answers.subschema_for::<Problem>();
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let operation = operation(route, &mut answers, &mut bodies, &json!(problem));
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.name()] = operation;
    }
    // Where both are there it is the dump, which is written as it is read.
    let mut schemas = bodies.take_definitions(true);
    schemas.extend(answers.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Homing",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(
    route: &Route,
    answers: &mut SchemaGenerator,
    bodies: &mut SchemaGenerator,
    problem: &Value,
) -> Value {
    let (media_type, schema) = match route.answers {
        Answers::Json(make) => ("application/json", json!(make(answers))),
        Answers::Other(media_type) => (media_type, json!({})),
    };
    let parameter = |name: &str, place: &str, about: &str| {
        json!({
            "name": name,
            "in": place,
            "required": place == "path",
            "description": about,
            "schema": { "type": "string" },
        })
    };
    let in_path = route.parameters().map(|name| parameter(name, "path", ""));
    let in_query = route
        .query
        .iter()
        .map(|(name, about)| parameter(name, "query", about));
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    let done = json!({
        "description": "What was asked for.",
        "content": { media_type: { "schema": schema } },
    });
    let mut operation = json!({
        "operationId": format!("{:?}", route.endpoint),
        "summary": route.about,
        "parameters": parameters,
        "responses": {
            "200": done,
            "default": {
                "description": "Why not, and whose fault it is.",
                "content": { MEDIA_TYPE: { "schema": problem } },
            },
        },
    });
    if let Some(make) = route.body {
        let schema = json!(make(bodies));
        operation["requestBody"] = json!({
            "content": { "application/json": { "schema": schema } },
        });
        operation["responses"]["202"] = operation["responses"]["200"].clone();
    }
    if let Some(role) = route.needs {
        operation["security"] = json!([{ "token": [] }]);
        operation["description"] = match role {
            Role::Read => json!("Any token will do."),
            Role::Admin => json!("Needs a token with the role admin."),
        };
    }
    operation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_once_and_every_reference_leads_somewhere() {
        let document = document();
        let paths = document["paths"].as_object().expect("paths");
        let operations: usize = paths
            .values()
            .map(|path| path.as_object().expect("operations").len())
            .sum();
        assert_eq!(operations, ROUTES.len(), "two routes are one operation");
        let text = document.to_string();
        let mut references = 0;
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().expect("a reference");
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            references += 1;
        }
        assert!(references > ROUTES.len(), "{references}");
        assert!(!text.contains("$defs"), "a schema outside of components");
    }

    #[test]
    fn what_changes_something_needs_an_admin() {
        for route in ROUTES {
            let changes = route.method != super::super::routes::Method::Get;
            assert_eq!(changes, route.needs == Some(Role::Admin), "{}", route.path);
            assert!(changes || route.body.is_none(), "{}", route.path);
        }
    }
}
