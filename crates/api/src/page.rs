//! The status page: the loop as a row of stages, endpoints, alerts, latest runs. One request, no script, nothing from elsewhere.
//!
//! Invariant: text enters the page through [`esc`] only; what is not text (words of closed enums, numbers) says so by its type.

use crate::overview::{EndpointState, FIGURES_SPAN, Health, Overview, Parity, StageState, error_rate};
use gristmill_kernel::experiment::Experiment;
use gristmill_kernel::prediction::ArmFigures;
use gristmill_kernel::{Run, Timestamp};
use std::fmt::Write;

/// The style sheet.
pub const STYLE: &str = include_str!("style.css");

/// The page.
pub fn render(overview: &Overview) -> String {
    let now = overview.now;
    let worst = overview.stages.iter().map(|s| s.health).max().unwrap_or(Health::Unknown);
    let mut page = String::with_capacity(16 << 10);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"10\"><title>{project} · Gristmill</title><link rel=\"stylesheet\" href=\"/style.css\"></head><body>\
         <header><h1>{project}</h1><p>{mark} the loop is <strong>{word}</strong> · {now}</p></header><main>\n",
        project = esc(&overview.project),
        mark = mark(worst),
        word = worst.as_str(),
        now = esc(&moment(now)),
    );
    page.push_str("<section aria-label=\"The loop\"><ol class=\"loop\">");
    overview.stages.iter().for_each(|s| stage(&mut page, s, now));
    page.push_str("</ol></section>\n");
    endpoints(&mut page, &overview.endpoints);
    alerts(&mut page, overview);
    runs(&mut page, &overview.runs, now);
    page.push_str(
        "</main><footer><a href=\"/api/v1/status\">status as JSON</a> · <a href=\"/api/v1/audit\">audit</a> · <a href=\"/metrics\">metrics</a> · \
         <a href=\"/openapi.json\">API</a></footer></body></html>\n",
    );
    page
}

fn stage(page: &mut String, stage: &StageState, now: Timestamp) {
    let _ = write!(page, "<li class=\"{0}\"><h2>{1} {2}</h2>", stage.health.as_str(), mark(stage.health), stage.stage.as_str());
    match &stage.last {
        None => page.push_str("<p class=\"quiet\">has not run yet</p>"),
        Some(run) => {
            let _ = write!(
                page,
                "<p>{}</p><p class=\"quiet\">{} · {}</p>",
                esc(&shorten(&run.summary, 90)),
                esc(&run.address.to_string()),
                ago(run, now)
            );
        }
    }
    page.push_str("</li>");
}

fn endpoints(page: &mut String, endpoints: &[EndpointState]) {
    page.push_str("<section><h2>Endpoints</h2>");
    if endpoints.is_empty() {
        page.push_str("<p class=\"quiet\">none deployed yet: <code>gristmill run</code></p></section>\n");
        return;
    }
    let minutes = FIGURES_SPAN.micros() / 60_000_000;
    let _ = write!(
        page,
        "<table><thead><tr><th>endpoint</th><th>arm</th><th>model</th><th class=\"n\">share</th><th class=\"n\">rows, {minutes} min</th>\
         <th class=\"n\">errors</th><th class=\"n\">p50</th><th class=\"n\">p99</th><th class=\"n\">mean score</th>\
         <th class=\"n\">features that differ</th></tr></thead><tbody>"
    );
    for endpoint in endpoints {
        let canary_share = endpoint.canary.as_ref().map_or(0, |canary| canary.permille);
        let percent = |permille: u32| format!("{} %", f64::from(permille) / 10.0);
        let mut arms = vec![("stable", &endpoint.stable, percent(1_000 - canary_share.min(1_000)))];
        arms.extend(endpoint.canary.as_ref().map(|canary| match canary.mirrored {
            0 => ("canary", &canary.model, percent(canary.permille)),
            copies => ("shadow", &canary.model, format!("copies of {}", percent(copies))),
        }));
        for (arm, model, share) in arms {
            let figures = endpoint.figures.iter().flatten().find(|(a, f)| a.as_str() == arm && f.model == *model).map(|(_, f)| f);
            let _ = write!(
                page,
                "<tr><td>{}</td><td>{arm}</td><td>{}</td><td class=\"n\">{share}</td>{}<td class=\"n\">{}</td></tr>",
                esc(endpoint.name.as_str()),
                esc(&model.to_string()),
                figure_cells(figures),
                parity_cell(endpoint.parity.as_ref().filter(|_| arm == "stable"))
            );
        }
    }
    page.push_str("</tbody></table>\n");
    for (endpoint, seen) in endpoints.iter().filter_map(|endpoint| Some((endpoint, endpoint.experiment.as_ref()?))) {
        experiment(page, endpoint, seen);
    }
    page.push_str("</section>\n");
}

/// What happened to those whom either version of an experiment answered.
fn experiment(page: &mut String, endpoint: &EndpointState, seen: &Experiment) {
    let decide = &seen.tried.decide;
    let _ = write!(
        page,
        "<h3>Experiment on {}: {}</h3><table><thead><tr><th>model</th><th class=\"n\">entities with an outcome</th><th class=\"n\">mean</th></tr></thead><tbody>",
        esc(endpoint.name.as_str()),
        esc(&decide.to_string())
    );
    for (model, values) in [(&seen.tried.stable, seen.of_stable), (&seen.tried.trial, seen.of_trial)] {
        let _ = write!(
            page,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{:.4}</td></tr>",
            esc(&model.to_string()),
            values.entities,
            values.mean
        );
    }
    let sure = f64::from(decide.confidence) / 10.0;
    let told = match seen.compare() {
        Err(lacking) => lacking,
        Ok(compared) => {
            let word = match compared.is_better() {
                Some(true) => format!("{} is better", seen.tried.trial),
                Some(false) => format!("{} is worse", seen.tried.trial),
                None => "neither is surely better".to_owned(),
            };
            format!("{word}: {compared} ({sure} % sure at every look)")
        }
    };
    let _ = write!(page, "</tbody></table><p>{}</p>", esc(&told));
}

fn figure_cells(figures: Option<&ArmFigures>) -> String {
    let number = |x: f64, unit: &str| if x.is_finite() { format!("{x:.3}{unit}") } else { "–".to_owned() };
    let cells = match figures {
        None => vec!["–".to_owned(); 5],
        Some(f) => vec![
            f.rows.to_string(),
            error_rate(f).map_or("–".into(), |rate| format!("{:.2} %", rate * 100.0)),
            number(f.p50_ms, " ms"),
            number(f.p99_ms, " ms"),
            number(f.score_mean, ""),
        ],
    };
    cells.iter().map(|cell| format!("<td class=\"n\">{cell}</td>")).collect()
}

/// How many served feature vectors were not what training gives, of those computed again.
fn parity_cell(parity: Option<&Parity>) -> String {
    match parity {
        None => "–".to_owned(),
        Some(p) if p.late + p.behind == 0 => format!("{} of {}", p.mismatched, p.checked),
        Some(p) => format!("{} of {}, {} late", p.mismatched, p.checked, p.late + p.behind),
    }
}

fn alerts(page: &mut String, overview: &Overview) {
    page.push_str("<section><h2>Alerts</h2>");
    if overview.alerts.is_empty() {
        page.push_str("<p class=\"quiet\">nothing wants a look</p></section>\n");
        return;
    }
    page.push_str("<ul class=\"alerts\">");
    for alert in &overview.alerts {
        let when = span(alert.at, overview.now);
        let _ =
            write!(page, "<li><strong>{}</strong> {} <span class=\"quiet\">{when} ago</span></li>", esc(&alert.subject), esc(&alert.text));
    }
    page.push_str("</ul></section>\n");
}

fn runs(page: &mut String, runs: &[Run], now: Timestamp) {
    page.push_str("<section><h2>Latest runs</h2><table><thead><tr><th>run</th><th>address</th><th>stage</th><th>state</th><th>what</th><th>by</th><th>when</th></tr></thead><tbody>");
    for run in runs {
        let health = Health::of(run);
        let _ = write!(
            page,
            "<tr><td><a href=\"/api/v1/runs/{}\"><code>{}</code></a></td><td>{}</td><td>{}</td><td class=\"{}\">{} {}{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            esc(&run.id.0),
            esc(run.id.short()),
            esc(&run.address.to_string()),
            run.stage.as_str(),
            health.as_str(),
            mark(health),
            run.status.as_str(),
            run.verdict.map(|v| format!(", {v}")).unwrap_or_default(),
            esc(&shorten(run.error.as_ref().map_or(&run.summary, |e| &e.message), 160)),
            esc(&run.actor.0),
            ago(run, now)
        );
    }
    page.push_str("</tbody></table></section>\n");
}

/// A shape beside each colour, for those who do not see the colour.
fn mark(health: Health) -> &'static str {
    match health {
        Health::Unknown => "<span class=\"mark\" aria-hidden=\"true\">○</span>",
        Health::Good => "<span class=\"mark\" aria-hidden=\"true\">●</span>",
        Health::Working => "<span class=\"mark\" aria-hidden=\"true\">◐</span>",
        Health::Doubtful => "<span class=\"mark\" aria-hidden=\"true\">▲</span>",
        Health::Bad => "<span class=\"mark\" aria-hidden=\"true\">■</span>",
    }
}

fn ago(run: &Run, now: Timestamp) -> String {
    match (run.ended_at, run.started_at) {
        (Some(ended), _) => format!("{} ago", span(ended, now)),
        (None, Some(started)) => format!("for {}", span(started, now)),
        (None, None) => "waiting".into(),
    }
}

/// The time between two moments in its largest unit.
fn span(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.since(from).micros() / 1_000_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

fn shorten(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// Text, made harmless.
pub fn esc(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}
