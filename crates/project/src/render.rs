//! Faults as people and tools read them.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use gristmill_kernel::Fault;

/// An error as text: title and code, the line with a caret, the fix. Ends without a line break.
pub fn render(fault: &Fault, color: bool) -> String {
    picture(fault, Level::ERROR, color)
}

/// A warning as text.
pub fn render_warning(fault: &Fault, color: bool) -> String {
    picture(fault, Level::WARNING, color)
}

fn picture(fault: &Fault, level: Level<'_>, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let title = level.primary_title(&fault.message).id(fault.code.0);
    let fix = fault.fix.as_deref().map(|fix| Level::HELP.with_name(Some("fix")).message(fix));
    let text = match &fault.spot {
        Some(spot) => {
            let byte = |chars: usize| spot.text.char_indices().nth(chars).map_or(spot.text.len(), |(at, _)| at);
            let start = byte(spot.column - 1);
            let end = byte(spot.column - 1 + spot.width).max(start);
            let snippet =
                Snippet::source(&spot.text).line_start(spot.line).path(&spot.file).annotation(AnnotationKind::Primary.span(start..end));
            renderer.render(&[title.element(snippet).elements(fix)])
        }
        None => renderer.render(&[title.elements(fix)]),
    };
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// A fault as JSON: `kind`, `code`, `message`, `fix`, `spot`.
pub fn json(fault: &Fault) -> serde_json::Value {
    serde_json::json!({
        "kind": fault.kind,
        "code": fault.code.0,
        "message": fault.message,
        "fix": fault.fix,
        "spot": fault.spot,
    })
}
