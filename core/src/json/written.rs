//! Tree → the text of a JSON value, without blanks and comments: what is kept of a part of a file.

use super::{Node, Value};
use alloc::string::String;
use miniserde::json;

/// The value as text. Numbers stand as they were written, keys in their order. A tree is [`super::DEPTH_MAX`] deep at most.
pub fn written(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match &value.value {
        Node::Null => out.push_str("null"),
        Node::Bool(said) => out.push_str(if *said { "true" } else { "false" }),
        Node::Number(digits) => out.push_str(digits),
        Node::Text(text) => out.push_str(&json::to_string(text)),
        Node::Array(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(element, out);
            }
            out.push(']');
        }
        Node::Object(entries) => {
            out.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&json::to_string(&key.value));
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
    }
}
