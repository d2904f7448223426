//! Many documents, good and bad ones: what is taken, and what is said of the rest.

use pointsman::resource::{Content, Limits, LoadError, Loader, Resources, Severity};

/// A VirtualService around a spec.
fn service(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a, namespace: shop}}\nspec:\n{spec}"
    )
}

/// Texts that something is wrong with.
fn bad_inputs() -> Vec<(&'static str, String)> {
    let spec = |name, text: &str| (name, service(text));
    let text = |name, text: &str| (name, text.to_owned());
    vec![
        spec("a misspelt field", "  hosts: [a]\n  http:\n  - timeot: 5s\n"),
        spec("a field of another name altogether", "  hosts: [a]\n  zebra: 1\n"),
        spec("a number for a string", "  hosts:\n  - 1.10\n"),
        spec(
            "a boolean of YAML 1.1 for a string",
            "  hosts: [a]\n  http:\n  - match:\n    - headers:\n        x-on: {exact: yes}\n",
        ),
        spec("a quoted boolean", "  http:\n  - match:\n    - ignoreUriCase: \"true\"\n"),
        spec("a port out of range", "  http:\n  - match:\n    - port: 4294967296\n"),
        spec("a duration in days", "  http:\n  - timeout: 1d\n"),
        spec("a duration without a unit", "  http:\n  - timeout: \"5\"\n"),
        spec("a duration as a number", "  http:\n  - timeout: 5\n"),
        spec("a map for a list", "  http:\n    route: []\n"),
        spec("a string for a map", "  http:\n  - match:\n    - uri: /api\n"),
        spec(
            "bytes that are no base64",
            "  http:\n  - directResponse:\n      status: 200\n      body: {bytes: \"a\"}\n",
        ),
        spec(
            "several at once",
            "  hosts: b\n  http:\n  - timeout: x\n    retries: {attempts: many, perTryTimeOut: 1s}\n",
        ),
        spec("a key twice", "  hosts: [a]\n  http: []\n  hosts: [b]\n"),
        spec("a header twice", "  http:\n  - headers:\n      request:\n        set: {a: b, a: c}\n"),
        spec("a merge key", "  <<: {hosts: [a]}\n"),
        spec("a local tag", "  hosts: !mine [a]\n"),
        spec("an unknown alias", "  hosts: *nothing\n"),
        spec("infinity", "  http:\n  - mirrorPercentage: {value: .inf}\n"),
        spec("a list as a key", "  ? [a]\n  : b\n"),
        spec("broken indentation", "  hosts: [a]\n http: []\n"),
        text(
            "an open quote in block style",
            "kind: VirtualService\nmetadata:\n  name: a # the name\n  namespace: \"shop\"\nspec:\n  hosts: [\"a]\n",
        ),
        text("two values", "\"a\" \"b\"\n"),
        spec("an open bracket", "  hosts: [a\n"),
        spec("a tabulator", "\thosts: [a]\n"),
        spec("a spec that is a list", "- a\n"),
        text("no kind", "apiVersion: networking.istio.io/v1\nspec: {}\n"),
        text("a kind that is a number", "apiVersion: networking.istio.io/v1\nkind: 1\n"),
        text("no version", "kind: VirtualService\nmetadata: {name: a}\n"),
        text(
            "a version that is not served",
            "apiVersion: networking.istio.io/v2\nkind: VirtualService\nmetadata: {name: a}\n",
        ),
        text(
            "a kind in the wrong case",
            "apiVersion: networking.istio.io/v1\nkind: virtualService\nmetadata: {name: a}\n",
        ),
        text("a document that is text", "hello\n"),
        text("a document that is a list", "- a\n- b\n"),
        text(
            "an unknown top-level field",
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspecs: {host: a}\n",
        ),
    ]
}

#[test]
fn what_is_said_of_bad_inputs() {
    let mut said = String::new();
    for (name, text) in bad_inputs() {
        let read = Loader::new().with_source("a.yaml").yaml(&text).expect("within the limits");
        assert!(!read.problems.is_empty(), "{name}: nothing is said");
        said.push_str(&format!("# {name}\n"));
        for problem in &read.problems {
            let severity = if problem.severity == Severity::Error { "error" } else { "warning" };
            said.push_str(&format!("{severity}: {problem}\n"));
        }
        let taken = read.virtual_services.len() + read.destination_rules.len();
        assert_eq!(taken == 0, read.errors().count() > 0 || !read.skipped.is_empty(), "{name}");
        said.push('\n');
    }
    insta::assert_snapshot!("bad_inputs", said);
}

#[test]
fn what_is_said_of_bad_json() {
    let table = [
        ("{\"a\": 1,}", "document 1:1:9: expected a key in double quotes, found `}`"),
        ("\n [1 2]", "document 1:2:5: expected `,` or `]`, found `2`"),
        ("{\"a\": 1, \"a\": 2}", "document 1:1:10: the key `a` is there twice"),
        ("[01]", "document 1:1:2: expected a number, found `0`"),
        ("[\"\\ud800\"]", "document 1:1:9: expected a whole surrogate pair, found `\\\"`"),
        ("[\"a\nb\"]", "document 1:1:4: expected the end of a string, found `\\n`"),
        ("[nul]", "document 1:1:2: expected a value, found `n`"),
        ("{", "document 1:1:2: expected a key in double quotes, found the end"),
    ];
    for (text, said) in table {
        let read = Resources::from_json(text).expect("within the limits");
        assert_eq!(read.problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [said], "{text}");
    }
    let pair = pointsman::resource::Value::from_json(r#""\ud83d\ude00""#).expect("JSON");
    assert_eq!(pair.as_str(), Some("😀"));
}

#[test]
fn a_port_s_policy_has_fewer_fields() {
    let text = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec:\n  host: a\n  \
        trafficPolicy:\n    port: 70000\n    portLevelSettings:\n    - port: {number: 80}\n      tunnel: 1\n      tls: {}\n";
    let read = Resources::from_yaml(text).expect("within the limits");
    let paths: Vec<_> = read.problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["spec.trafficPolicy.port", "spec.trafficPolicy.portLevelSettings[0].tunnel"]);
    assert_eq!(read.destination_rules.len(), 1);
}

#[test]
fn a_bad_document_takes_no_other_down() {
    for (name, bad) in bad_inputs() {
        let good = service("  hosts: [b]\n");
        let text = format!("{good}---\n{bad}---\n{good}");
        let read = Resources::from_yaml(&text).expect("within the limits");
        let alone = Resources::from_yaml(&bad).expect("within the limits");
        assert_eq!(read.virtual_services.len(), 2 + alone.virtual_services.len(), "{name}");
        assert!(read.problems.iter().all(|problem| problem.document == 2), "{name}");
        let lines = |read: &Resources| -> Vec<_> {
            read.problems.iter().map(|problem| problem.position.map(|position| position.line)).collect()
        };
        let moved: Vec<_> =
            lines(&alone).into_iter().map(|line| line.map(|line| line + good.lines().count() + 1)).collect();
        assert_eq!(lines(&read), moved, "{name}");
    }
}

#[test]
fn of_ten_documents_three_are_broken() {
    let read = Loader::new().with_source("ten.yaml").yaml(include_str!("data/ten.yaml")).expect("within the limits");
    assert_eq!(read.virtual_services.len() + read.destination_rules.len(), 7);
    let said: Vec<String> = read.problems.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(said.join("\n"), @r"
    ten.yaml:16:7: VirtualService shop/broken-yaml: did not find expected ',' or ']'
    ten.yaml:30:39: DestinationRule shop/broken-type: spec.trafficPolicy.connectionPool.http.http1MaxPendingRequests: expected a whole number from -2147483648 to 2147483647, found the string `many`
    ten.yaml:48:14: VirtualService shop/broken-duration: spec.http[0].timeout: `5 seconds` is not a duration: the units are ns, us, ms, s, m and h; expected one such as `1.5s` or `1h30m`
    ");
}

#[test]
fn documents_of_all_sorts() {
    let text = "\u{feff}%YAML 1.1\n---\n# only a comment\n---\napiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\n\
        metadata: {name: one}\nspec: {hosts: [a]}\n...\n---\n---\napiVersion: v1\nkind: List\nitems:\n\
        - {apiVersion: networking.istio.io/v1beta1, kind: DestinationRule, metadata: {name: two}, spec: {host: a}}\n\
        - {apiVersion: v1, kind: Service}\n- {apiVersion: v1, kind: List, items: []}\n- null\n\
        --- # inline\napiVersion: networking.istio.io/v1\nkind: VirtualServiceList\nitems:\n- metadata: {name: three}\n\
        ---\napiVersion: networking.istio.io/v1\nkind: Gateway\n--- {apiVersion: appmesh.k8s.aws/v1, kind: VirtualService}\n";
    let read = Resources::from_yaml(text).expect("within the limits");
    assert!(read.problems.is_empty(), "{:#?}", read.problems);
    let names: Vec<_> = read.virtual_services.iter().map(|service| service.metadata.name.as_str()).collect();
    assert_eq!(names, ["one", "three"]);
    assert_eq!(read.virtual_services[0].api_version, "networking.istio.io/v1alpha3");
    assert_eq!(read.virtual_services[1].api_version, "networking.istio.io/v1");
    assert_eq!(read.destination_rules[0].metadata.name, "two");
    let skipped: Vec<_> = read.skipped.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(skipped, [("appmesh.k8s.aws/VirtualService", 1), ("networking.istio.io/Gateway", 1), ("v1/Service", 1)]);
    let contents: Vec<_> = read.documents.iter().map(|document| (document.number, document.content)).collect();
    assert_eq!(
        contents,
        [(1, Content::VirtualService(0)), (2, Content::DestinationRule(0)), (3, Content::VirtualService(1))]
    );
}

#[test]
fn texts_are_put_together() {
    let mut read = Resources::from_yaml(&service("  hosts: [a]\n")).expect("within the limits");
    read.append(Resources::from_yaml(&service("  hosts: [b]\n  x: 1\n")).expect("within the limits"));
    assert_eq!(read.virtual_services[1].spec.hosts, ["b"]);
    assert_eq!(read.documents[1].content, Content::VirtualService(1));
    assert_eq!(read.problems.len(), 1);
}

#[test]
fn scalars_of_yaml_1_1() {
    let table = [
        ("yes", "true"),
        ("Off", "false"),
        ("\"yes\"", "\"yes\""),
        ("'no'", "\"no\""),
        ("!!str yes", "\"yes\""),
        ("&x yes", "true"),
        ("yEs", "\"yEs\""),
        ("012", "10"),
        ("-012", "-10"),
        ("09", "9"),
        ("0o14", "12"),
        ("0x1F", "31"),
        ("0b11", "3"),
        ("1_000", "1000"),
        ("+5", "5"),
        ("1:30", "\"1:30\""),
        ("2024-01-31", "\"2024-01-31\""),
        ("1.2.3", "\"1.2.3\""),
        ("10.0.0.0/8", "\"10.0.0.0/8\""),
        ("~", "null"),
        ("-", "[null]"),
        ("5s", "\"5s\""),
        ("1e3", "1000.0"),
        ("5.", "5.0"),
    ];
    for (text, expected) in table {
        let tree = pointsman::resource::Value::from_yaml(&format!("# a scalar\n{text}\n")).expect(text);
        assert_eq!(tree.to_json(), expected, "{text}");
    }
}

#[test]
fn rust_s_own_spelling_is_no_field() {
    let read = Resources::from_yaml(&service("  http:\n  - r#match: []\n")).expect("within the limits");
    assert_eq!(read.problems[0].path, "spec.http[0].r#match");
    assert_eq!(read.problems[0].suggestion.as_deref(), Some("match"));
}

#[test]
fn unlisted_findings_are_counted() {
    let fields: String = (0..150).map(|field| format!("  zebra{field}: 1\n")).collect();
    let read = Resources::from_yaml(&service(&fields)).expect("within the limits");
    assert_eq!((read.virtual_services.len(), read.errors().count(), read.problems.len()), (1, 0, 101));
    assert!(read.problems[100].to_string().ends_with("and 50 more problems like these"));
}

#[test]
fn anchors_are_followed() {
    let text = service("  hosts: &hosts [a, b]\n  gateways: *hosts\n");
    let read = Resources::from_yaml(&text).expect("within the limits");
    assert!(read.problems.is_empty(), "{:?}", read.problems);
    assert_eq!(read.virtual_services[0].spec.gateways, ["a", "b"]);
}

#[test]
fn what_is_too_much_is_refused() {
    let limited = |change: &dyn Fn(&mut Limits), text: &str| {
        let mut limits = Limits::default();
        change(&mut limits);
        Loader::new().with_limits(limits).yaml(text)
    };
    let text = service("  hosts: [a]\n");
    assert_eq!(
        limited(&|limits| limits.bytes = 10, &text).err(),
        Some(LoadError::TooLong { found: text.len(), limit: 10 })
    );
    let two = format!("{text}---\n{text}");
    assert_eq!(limited(&|limits| limits.documents = 1, &two).err(), Some(LoadError::TooManyDocuments { limit: 1 }));
    let first = |read: Result<Resources, LoadError>| read.expect("as a whole").problems.remove(0).to_string();
    assert_eq!(
        first(limited(&|limits| limits.document_bytes = 20, &text)),
        format!("document 1:1:1: VirtualService shop/a: the document has {} bytes; at most 20 are read", text.len())
    );
    assert!(first(limited(&|limits| limits.depth = 1, &text)).contains("deeper than 1 levels"));
    let problems = limited(&|limits| limits.problems = 1, "a\n---\nb\n---\nc\n").expect("as a whole");
    assert_eq!((problems.problems.len(), problems.unlisted_problems), (1, 2));
    assert!(first(limited(&|limits| limits.nodes = 5, &text)).contains("more than 5 values"));
}

/// Texts that would cost a careless reader memory or time without end. Their sizes are such that a quadratic reader
/// would be felt.
#[test]
fn hostile_texts_are_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let items = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    let long = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 10_000].join(", "));
    let keys: String = (0..20_000).map(|key| format!("zebra{key}: 1\n")).collect();
    let unknown = format!("apiVersion: networking.istio.io/v1\nkind: DestinationRule\n{keys}");
    let lists = format!("{}{}", "{\"kind\": \"List\", \"items\": [".repeat(5_000), "]}".repeat(5_000));
    let texts = [
        ("an alias bomb", bomb),
        ("a long string many times", long),
        ("deep flow lists", "[".repeat(200_000)),
        ("deep flow maps", "{a: ".repeat(100_000)),
        ("deep JSON", "{\"a\":".repeat(200_000)),
        ("deep block lists", "- ".repeat(100_000)),
        ("deep keys", "? ".repeat(100_000)),
        ("many unknown fields", unknown),
        ("lists in lists", lists),
    ];
    for (name, text) in texts {
        let read = Resources::from_yaml(&text).expect("within the limits");
        assert!(!read.problems.is_empty(), "{name}");
        assert!(read.problems.len() <= 102, "{name}");
        let read = Resources::from_json(&text).expect("within the limits");
        assert!(!read.problems.is_empty(), "{name}");
    }
}
