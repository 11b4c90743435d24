//! Requests as clients write them, rightly and wrongly.

use super::*;
use serde_json::json;

#[derive(Debug, Deserialize)]
struct Thing {
    run_id: Option<String>,
    run_uuid: Option<String>,
    #[serde(deserialize_with = "filled")]
    key: String,
    value: Double,
    step: Option<Int>,
    wanted: Option<bool>,
    ids: Option<Vec<String>>,
    view: Option<EnumWord>,
    tags: Option<Vec<Tag>>,
}

#[derive(Debug, Deserialize)]
struct Tag {
    #[serde(deserialize_with = "filled")]
    key: String,
    value: Option<String>,
}

impl Ask for Thing {
    const FIELDS: &'static [Field] = &[
        Field::text("run_id").required(),
        Field::text("run_uuid"),
        Field::text("key").required(),
        Field::new("value", Is::Float).required(),
        Field::new("step", Is::Int),
        Field::new("wanted", Is::Flag),
        Field::new("ids", Is::Texts),
        Field::new("view", Is::Word),
        Field::new("tags", Is::Items(&[Field::text("key").required(), Field::text("value")])),
    ];
}

fn refused(body: &str) -> String {
    from_body::<Thing>(body.as_bytes()).expect_err(body).message
}

#[test]
fn bodies_are_read_as_protocol_buffers_read_them() {
    let thing: Thing = from_body(
        br#"{"run_id":"r","run_uuid":"r","key":"k","value":"NaN","step":"-7","unknown":{},"ids":null,"view":2,
        "tags":[{"key":"a","value":""}]}"#,
    )
    .expect("fits");
    assert_eq!((thing.key.as_str(), thing.step, thing.ids), ("k", Some(Int(-7)), None));
    assert!(thing.value.0.is_nan());
    assert_eq!(thing.view, Some(EnumWord("2".into())));
    let tags = thing.tags.expect("tags");
    assert_eq!((tags[0].key.as_str(), tags[0].value.as_deref()), ("a", Some("")));
    assert_eq!(run_id(thing.run_id, thing.run_uuid).expect("there").0, "r");
    for (text, wanted) in
        [("2", 2.0), ("true", 1.0), ("\"Infinity\"", f64::INFINITY), ("\"-Infinity\"", f64::NEG_INFINITY), ("\"0.5\"", 0.5)]
    {
        let thing: Thing = from_body(format!(r#"{{"run_uuid":"r","key":"k","value":{text}}}"#).as_bytes()).expect(text);
        assert_eq!(thing.value.0, wanted);
    }
    // The last of two counts, and JSON in JSON is opened.
    let thing: Thing = from_body(br#"{"run_id":"r","key":"j","key":"k","value":1}"#).expect("fits");
    assert_eq!(thing.key, "k");
    assert!(from_body::<Thing>(br#""{\"run_id\":\"r\",\"key\":\"k\",\"value\":1}""#).is_ok());
}

#[test]
fn what_does_not_fit_is_explained_in_mlflows_words() {
    let docs = "See the API docs for more information about request parameters.";
    assert_eq!(refused(""), format!("Missing value for required parameter 'run_id'. {docs}"));
    assert_eq!(refused("{nonsense"), format!("Missing value for required parameter 'run_id'. {docs}"));
    assert_eq!(
        refused(r#"{"run_id":31,"key":"k","value":1}"#),
        format!("Invalid value 31 for parameter 'run_id' supplied:  Hint: Value was of type 'int'. {docs}")
    );
    assert_eq!(refused(r#"{"run_id":"r","key":"","value":1}"#), format!("Missing value for required parameter 'key'. {docs}"));
    assert_eq!(refused(r#"{"run_id":"r","key":null,"value":1}"#), format!("Missing value for required parameter 'key'. {docs}"));
    assert!(
        refused(r#"{"run_id":"r","key":"k","value":1,"step":"foo"}"#).starts_with("Invalid value \"foo\" for parameter 'step' supplied")
    );
    assert!(refused(r#"{"run_id":"r","key":"k","value":1,"step":1.5}"#).contains("Value was of type 'float'"));
    assert!(refused(r#"{"run_id":"r","key":"k","value":1,"tags":"5"}"#).starts_with("Invalid value \"5\" for parameter 'tags' supplied"));
    assert!(
        refused(r#"{"run_id":"r","key":"k","value":1,"tags":[{"key":"a"},{}]}"#)
            .starts_with("Missing value for required parameter 'tags[1].key'.")
    );
    assert!(refused(r#"{"run_id":"r","key":"k","value":1,"ids":[1]}"#).starts_with("Invalid value [1] for parameter 'ids'"));
    assert!(refused("[]").contains("not a JSON object"));
    assert!(refused(&format!("{}1{}", "[".repeat(70), "]".repeat(70))).contains("nested deeper"));
    assert_eq!(invalid_text("p", &json!("é😀"), None), "Invalid value \"\\u00e9\\ud83d\\ude00\" for parameter 'p' supplied.");
}

#[test]
fn query_arguments_repeat_and_say_true_or_false() {
    let pairs = |list: &[(&str, &str)]| list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
    let thing: Thing =
        from_query(&pairs(&[("run_id", "r"), ("key", "k"), ("value", "1.5"), ("ids", "a"), ("ids", "b"), ("wanted", "True"), ("x", "y")]))
            .expect("fits");
    assert_eq!((thing.value, thing.ids, thing.wanted), (Double(1.5), Some(vec!["a".into(), "b".into()]), Some(true)));
    let text = from_query::<Thing>(&pairs(&[("run_id", "r"), ("wanted", "1")])).expect_err("no flag").message;
    assert_eq!(text, "Invalid boolean value: 1, must be 'true' or 'false'.");
}

#[test]
fn floats_that_json_lacks_are_words() {
    let text = serde_json::to_string(&[Double(1.0), Double(f64::NAN), Double(f64::INFINITY), Double(f64::NEG_INFINITY), Double(f64::MAX)]);
    assert_eq!(text.expect("serialises"), r#"[1.0,"NaN","Infinity","-Infinity",1.7976931348623157e+308]"#);
}
