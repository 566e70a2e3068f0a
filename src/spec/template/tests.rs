use std::collections::BTreeMap;

use super::*;
use crate::limits::{TEMPLATE_MAX_BYTES, TEMPLATE_MAX_DEPTH};

fn context() -> Context {
    let text = str::to_owned;
    let labels = [("a", "1"), ("b.c", "<x>"), ("empty", "")];
    Context {
        service_id: text("svc"),
        service_name: text("web"),
        service_labels: labels.into_iter().map(|(k, v)| (text(k), text(v))).collect(),
        node_id: text("node"),
        node_hostname: text("host"),
        node_architecture: text("aarch64"),
        node_os: text("linux"),
        task_id: text("task"),
        task_name: text("web.1.task"),
        task_slot: text("1"),
    }
}

/// Each line of the file: a template, OK or ERR, and what Go 1.19 with swarm's `join` made of it.
#[test]
fn what_go_expands_comes_out_the_same_and_what_go_refuses_is_refused() {
    let mut wrong = BTreeMap::new();
    for line in include_str!("../../../tests/golden/template-go.jsonl").lines() {
        let [template, verdict, output] = serde_json::from_str::<[String; 3]>(line).unwrap();
        let ours = expand(&template, &context());
        let same = match (&ours, verdict.as_str()) {
            (Ok(text), "OK") => *text == output,
            (Err(TemplateError::Unsupported { .. }), _) => true,
            // Go prints a complaint into the text; we refuse.
            (Err(_), "OK") => output.contains("%!"),
            (Err(_), _) => true,
            (Ok(_), _) => false,
        };
        if !same {
            wrong.insert(template, (verdict, output, ours));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_these_of_gos_features_are_unsupported() {
    for template in ["{{1.5}}", "{{.}}", "{{.Service}}", "{{define \"x\"}}{{end}}", "{{js 1}}"] {
        let error = expand(template, &context()).unwrap_err();
        assert!(matches!(error, TemplateError::Unsupported { .. }), "{template}: {error}");
    }
}

#[test]
fn errors_name_the_line_and_the_name() {
    let error = expand("a\n{{`\n`}}\n{{ nope }}", &context()).unwrap_err();
    assert_eq!(error.to_string(), "template: line 4: function \"nope\" not defined");
    let error = expand("{{.Service.Labels.none}}", &context()).unwrap_err();
    assert_eq!(error.to_string(), "template: map has no entry for key \"none\"");
}

#[test]
fn work_text_and_nesting_are_bounded() {
    let range = "{{range $.Service.Labels}}".repeat(40) + "x" + &"{{end}}".repeat(40);
    assert_eq!(expand(&range, &context()), Err(TemplateError::TooLarge));
    let double = "{{$x := \"xxxxxxxxxx\"}}".to_owned() + &"{{$x = print $x $x}}".repeat(40);
    assert_eq!(expand(&double, &context()), Err(TemplateError::TooLarge));
    let wide = "%1000d".repeat(2000);
    let wide = format!("{{{{printf \"{wide}\" {}}}}}", "1 ".repeat(2000));
    assert_eq!(expand(&wide, &context()), Err(TemplateError::TooLarge));
    let long = "{{\"\"}}".to_owned() + &"x".repeat(TEMPLATE_MAX_BYTES + 1);
    assert_eq!(expand(&long, &context()), Err(TemplateError::TooLarge));
    for depth in [TEMPLATE_MAX_DEPTH, 100_000] {
        let parens = format!("{{{{print {}1{}}}}}", "(".repeat(depth), ")".repeat(depth));
        let expected = if depth == TEMPLATE_MAX_DEPTH {
            Ok("1".to_owned())
        } else {
            Err(TemplateError::TooLarge)
        };
        assert_eq!(expand(&parens, &context()), expected);
    }
}

#[test]
fn payloads_have_secret_config_and_env_and_specs_do_not() {
    let secret = |name: &str| (name == "pw").then(|| SecretBytes::new(b"{{hunter2}}".to_vec()));
    let config = |_: &str| Some(SecretBytes::new(vec![0xff]));
    let env = |name: &str| (name == "A").then(|| "1".to_owned());
    let payload = Payload { secret: &secret, config: &config, env: &env };
    let try_one = |text: &str| {
        let content = SecretBytes::new(text.as_bytes().to_vec());
        expand_payload(&content, &context(), &payload)
            .map(|data| String::from_utf8(data.expose().to_vec()).unwrap())
    };
    let text = "{{secret \"pw\"}} {{env \"A\"}}{{env \"B\"}} {{.Task.Slot}}";
    assert_eq!(try_one(text).unwrap(), "{{hunter2}} 1 1", "a secret is not expanded again");
    assert!(try_one("{{secret \"none\"}}").is_err());
    assert_eq!(try_one("{{config \"x\"}}"), Err(TemplateError::NotText));
    assert!(expand("{{env \"A\"}}", &context()).is_err());
}
