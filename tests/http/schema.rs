//! Whether a document is what the OpenAPI description says: the part of JSON Schema that the description
//! uses. A keyword that is not known here fails the test, so that none is passed over.

use serde_json::Value;

pub struct Described(Value);

impl Described {
    pub fn new(document: Value) -> Described {
        assert_eq!(document["openapi"], "3.1.0");
        Described(document)
    }

    /// All operations: method, path, operation.
    pub fn operations(&self) -> Vec<(String, String, &Value)> {
        let paths = self.0["paths"].as_object().expect("paths");
        let of = |(path, operations): (&String, &'_ Value)| {
            let operations = operations.as_object().expect("operations").clone();
            operations
                .keys()
                .map(|method| (method.to_uppercase(), path.clone()))
                .collect::<Vec<_>>()
        };
        let all: Vec<_> = paths.iter().flat_map(of).collect();
        all.into_iter()
            .map(|(method, path)| {
                let operation = &paths[&path][method.to_lowercase()];
                (method, path, operation)
            })
            .collect()
    }

    /// Checks an answer of an operation.
    #[track_caller]
    pub fn check(&self, operation: &Value, answer: &Value) {
        let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        assert!(!schema.is_null(), "{operation}");
        self.valid(schema, answer, "$");
    }

    #[track_caller]
    fn valid(&self, schema: &Value, value: &Value, at: &str) {
        let Some(keywords) = schema.as_object() else {
            assert_eq!(schema, true, "{at}: a schema");
            return;
        };
        for (keyword, wanted) in keywords {
            match keyword.as_str() {
                "$ref" => {
                    let pointer = wanted
                        .as_str()
                        .expect("a reference")
                        .trim_start_matches('#');
                    let schema = self.0.pointer(pointer).expect("a schema");
                    self.valid(schema, value, at);
                }
                "type" => assert!(has_type(wanted, value), "{at}: {value} is no {wanted}"),
                "properties" => {
                    for (name, schema) in wanted.as_object().expect("properties") {
                        if let Some(value) = value.get(name) {
                            self.valid(schema, value, &format!("{at}.{name}"));
                        }
                    }
                    for name in value.as_object().into_iter().flatten().map(|it| it.0) {
                        assert!(wanted.get(name).is_some(), "{at}: {name} is not described");
                    }
                }
                "required" => {
                    for name in wanted.as_array().expect("names") {
                        let name = name.as_str().expect("a name");
                        assert!(
                            value.get(name).is_some(),
                            "{at}: {name} is missing in {value}"
                        );
                    }
                }
                "items" => {
                    for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                        self.valid(wanted, value, &format!("{at}[{index}]"));
                    }
                }
                "prefixItems" => {
                    let schemas = wanted.as_array().expect("schemas");
                    for (schema, value) in schemas.iter().zip(value.as_array().expect("items")) {
                        self.valid(schema, value, at);
                    }
                }
                "enum" => assert!(
                    wanted.as_array().expect("values").contains(value),
                    "{at}: {value}"
                ),
                "minimum" => assert!(
                    value.is_null() || value.as_f64() >= wanted.as_f64(),
                    "{at}: {value}"
                ),
                "maximum" => assert!(
                    value.is_null() || value.as_f64() <= wanted.as_f64(),
                    "{at}: {value}"
                ),
                "minItems" => {
                    let items = value.as_array().expect("items").len() as u64;
                    assert!(items >= wanted.as_u64().expect("a number"), "{at}");
                }
                "maxItems" => {
                    let items = value.as_array().expect("items").len() as u64;
                    assert!(items <= wanted.as_u64().expect("a number"), "{at}");
                }
                "description" | "format" | "title" | "default" | "additionalProperties" => {}
                other => panic!("{at}: keyword {other} is not known to the test"),
            }
        }
    }
}

fn has_type(wanted: &Value, value: &Value) -> bool {
    let is = |name: &Value| match name.as_str().expect("a type") {
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("type {other}"),
    };
    match wanted {
        Value::Array(all) => all.iter().any(is),
        one => is(one),
    }
}
