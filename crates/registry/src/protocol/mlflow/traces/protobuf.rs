//! Reads what OpenTelemetry's exporters send: `ExportTraceServiceRequest` in protocol buffers.
//!
//! The bytes are a stranger's: every count and depth is limited while reading, so that a small body cannot become large memory, and no bytes
//! make it panic. Fields that are not looked at are passed over.

use super::any::Any;
use super::export::{Sent, SentSpan, Tally};
use crate::protocol::mlflow::error::invalid;
use gristmill_kernel::limits::SPAN_DEPTH_MAX;
use gristmill_kernel::protobuf::{Field, Fields};
use gristmill_kernel::tracking::trace::{Attributes, Span, SpanEvent, SpanLink, SpanStatus};
use gristmill_kernel::{Fault, Result};

/// Reads a request.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Sent>> {
    let mut tally = Tally::default();
    let mut sent = Vec::new();
    each(bytes, |field, value| {
        if field == 1 {
            sent.push(resource_spans(value.bytes()?, &mut tally)?);
        }
        Ok(())
    })?;
    Ok(sent)
}

fn unreadable() -> Fault {
    invalid("Invalid OpenTelemetry format").fix("send an ExportTraceServiceRequest as protocol buffers or JSON")
}

/// A value on the wire.
#[derive(Clone, Copy)]
struct Wire<'a>(Field<'a>);

impl<'a> Wire<'a> {
    fn bytes(self) -> Result<&'a [u8]> {
        match self.0 {
            Field::Bytes(bytes) => Ok(bytes),
            _ => Err(unreadable()),
        }
    }
    fn text(self) -> Result<String> {
        std::str::from_utf8(self.bytes()?).map(str::to_owned).map_err(|_| unreadable())
    }
    fn varint(self) -> Result<u64> {
        match self.0 {
            Field::Varint(value) => Ok(value),
            _ => Err(unreadable()),
        }
    }
    fn fixed64(self) -> Result<u64> {
        match self.0 {
            Field::Fixed64(value) => Ok(value),
            _ => Err(unreadable()),
        }
    }
    /// Nanoseconds since 1970; ours end in the year 2262.
    fn nanos(self) -> Result<i64> {
        i64::try_from(self.fixed64()?).map_err(|_| invalid("a span's time is beyond the year 2262"))
    }
}

/// Calls with each field of a message and its value.
fn each<'a>(bytes: &'a [u8], mut take: impl FnMut(u64, Wire<'a>) -> Result<()>) -> Result<()> {
    for field in Fields::of(bytes) {
        let (number, value) = field.map_err(|_| unreadable())?;
        take(number, Wire(value))?;
    }
    Ok(())
}

fn resource_spans(bytes: &[u8], tally: &mut Tally) -> Result<Sent> {
    let mut sent = Sent::default();
    each(bytes, |field, value| {
        match field {
            1 => each(value.bytes()?, |field, value| {
                if field == 1 {
                    tally.item()?;
                    sent.resource.push(key_value(value.bytes()?, tally, 0)?);
                }
                Ok(())
            })?,
            2 => each(value.bytes()?, |field, value| {
                if field == 2 {
                    tally.span()?;
                    sent.spans.push(span(value.bytes()?, tally)?);
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(sent)
}

fn span(bytes: &[u8], tally: &mut Tally) -> Result<SentSpan> {
    let (mut trace, mut id, mut parent) = (None, None, None);
    let mut span = Span {
        id: String::new(),
        parent: None,
        name: String::new(),
        started_ns: 0,
        ended_ns: None,
        status: SpanStatus::Unset,
        status_message: None,
        attributes: Vec::new(),
        events: Vec::new(),
        links: Vec::new(),
    };
    each(bytes, |field, value| {
        match field {
            1 => trace = Some(value.bytes()?),
            2 => id = Some(value.bytes()?),
            4 => parent = Some(value.bytes()?),
            5 => span.name = value.text()?,
            7 => span.started_ns = value.nanos()?,
            8 => span.ended_ns = Some(value.nanos()?).filter(|ns| *ns != 0),
            9 => attribute(&mut span.attributes, value, tally)?,
            11 => {
                tally.item()?;
                span.events.push(event(value.bytes()?, tally)?);
            }
            13 => {
                tally.item()?;
                span.links.extend(link(value.bytes()?, tally)?);
            }
            15 => each(value.bytes()?, |field, value| {
                match field {
                    2 => span.status_message = Some(value.text()?).filter(|message| !message.is_empty()),
                    3 => {
                        span.status = match value.varint()? {
                            1 => SpanStatus::Ok,
                            2 => SpanStatus::Error,
                            _ => SpanStatus::Unset,
                        }
                    }
                    _ => {}
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    SentSpan::new(trace.unwrap_or_default(), id.unwrap_or_default(), parent.unwrap_or_default(), span)
}

fn event(bytes: &[u8], tally: &mut Tally) -> Result<SpanEvent> {
    let mut event = SpanEvent { name: String::new(), at_ns: 0, attributes: Vec::new() };
    each(bytes, |field, value| {
        match field {
            1 => event.at_ns = value.nanos()?,
            2 => event.name = value.text()?,
            3 => attribute(&mut event.attributes, value, tally)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(event)
}

/// A link whose ids have other lengths than OpenTelemetry's links nothing.
fn link(bytes: &[u8], tally: &mut Tally) -> Result<Option<SpanLink>> {
    let (mut trace, mut span): (&[u8], &[u8]) = (&[], &[]);
    let mut attributes = Vec::new();
    each(bytes, |field, value| {
        match field {
            1 => trace = value.bytes()?,
            2 => span = value.bytes()?,
            4 => attribute(&mut attributes, value, tally)?,
            _ => {}
        }
        Ok(())
    })?;
    let fits = trace.len() == 16 && span.len() == 8;
    Ok(fits.then(|| SpanLink { trace: hex::encode(trace), span: hex::encode(span), attributes }))
}

fn attribute(attributes: &mut Attributes, value: Wire<'_>, tally: &mut Tally) -> Result<()> {
    tally.item()?;
    let (key, value) = key_value(value.bytes()?, tally, 0)?;
    attributes.push((key, value.to_json()));
    Ok(())
}

fn key_value(bytes: &[u8], tally: &mut Tally, depth: usize) -> Result<(String, Any)> {
    let (mut key, mut value) = (String::new(), Any::Null);
    each(bytes, |field, wire| {
        match field {
            1 => key = wire.text()?,
            2 => value = any(wire.bytes()?, tally, depth)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((key, value))
}

fn any(bytes: &[u8], tally: &mut Tally, depth: usize) -> Result<Any> {
    if depth >= SPAN_DEPTH_MAX {
        return Err(invalid(format!("a value in a span is nested deeper than {SPAN_DEPTH_MAX}")));
    }
    let mut any = Any::Null;
    each(bytes, |field, value| {
        any = match field {
            1 => Any::Text(value.text()?),
            2 => Any::Bool(value.varint()? != 0),
            // Whole numbers are sent in two's complement.
            3 => Any::Int(value.varint()?.cast_signed()),
            4 => Any::Float(f64::from_bits(value.fixed64()?)),
            5 => {
                let mut items = Vec::new();
                each(value.bytes()?, |field, value| {
                    if field == 1 {
                        tally.item()?;
                        items.push(self::any(value.bytes()?, tally, depth + 1)?);
                    }
                    Ok(())
                })?;
                Any::List(items)
            }
            6 => {
                let mut pairs = Vec::new();
                each(value.bytes()?, |field, value| {
                    if field == 1 {
                        tally.item()?;
                        pairs.push(key_value(value.bytes()?, tally, depth + 1)?);
                    }
                    Ok(())
                })?;
                Any::Map(pairs)
            }
            7 => Any::of_bytes(value.bytes()?),
            _ => return Ok(()),
        };
        Ok(())
    })?;
    Ok(any)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any as anything, proptest};

    /// What the client's own library makes of a span with every kind of value: see the fixture's first line.
    fn fixture() -> Vec<u8> {
        let text = include_str!("fixtures/export.hex");
        hex::decode(text.lines().filter(|line| !line.starts_with('#')).collect::<String>()).expect("hex")
    }

    #[test]
    fn what_a_client_sends_is_read() {
        let sent = read(&fixture()).expect("a request");
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].resource[0], ("service.name".into(), Any::Text("shop".into())));
        let span = &sent[0].spans[0];
        assert_eq!(span.trace, "tr-0123456789abcdef0123456789abcdef");
        assert_eq!((span.span.id.as_str(), span.span.parent.as_deref()), ("00000000000000aa", Some("00000000000000bb")));
        assert_eq!((span.span.name.as_str(), span.span.status), ("predict", SpanStatus::Error));
        assert_eq!(span.span.status_message.as_deref(), Some("boom"));
        assert_eq!((span.span.started_ns, span.span.ended_ns), (1_700_000_000_000_000_001, Some(1_700_000_000_500_000_002)));
        let attributes: Vec<(&str, &str)> = span.span.attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            attributes,
            [
                ("text", "\"héllo\""),
                ("flag", "true"),
                ("int", "-5"),
                ("float", "0.25"),
                ("list", "[1, \"a\", []]"),
                ("map", r#"{"z": 1, "a": {"b": null}}"#),
                ("bytes", "\"AAE=\""),
                ("nothing", "null"),
                ("mlflow.traceRequestId", "\"tr-0123456789abcdef0123456789abcdef\""),
            ]
        );
        assert_eq!((span.span.events[0].name.as_str(), span.span.events[0].at_ns), ("exception", 1_700_000_000_000_000_003));
        assert_eq!(span.span.events[0].attributes, [("exception.type".to_owned(), "\"ValueError\"".to_owned())]);
        assert_eq!(span.span.links[0].span, "00000000000000cc");
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let whole = fixture();
        assert!(read(&[]).expect("nothing").is_empty());
        for length in 1..whole.len() {
            let _ = read(&whole[..length]);
        }
        assert!(read(&whole[..whole.len() - 1]).is_err());
        assert!(read(b"no protocol buffers").is_err());
        assert!(read(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).is_err(), "a length of 2^64");
        assert!(read(&[0x80; 11]).is_err(), "a number without an end");
    }

    /// A message in a field of another.
    fn within(field: u8, inner: &[u8]) -> Vec<u8> {
        let mut out = vec![field << 3 | 2];
        let mut length = inner.len();
        while length >= 0x80 {
            out.push((length as u8 & 0x7f) | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(inner);
        out
    }

    #[test]
    fn counts_and_depths_are_limited() {
        let spans = within(2, &[]).repeat(gristmill_kernel::limits::TRACE_SPANS_MAX + 1);
        let fault = read(&within(1, &within(2, &spans))).expect_err("too many");
        assert!(fault.message.contains("span"), "{fault}");
        let values = within(5, &within(1, &[]).repeat(gristmill_kernel::limits::SPAN_ITEMS_MAX + 1));
        let wide = within(9, &within(2, &values));
        assert!(read(&within(1, &within(2, &within(2, &wide)))).is_err());
        let mut deep = Vec::new();
        for _ in 0..=SPAN_DEPTH_MAX {
            deep = within(5, &within(1, &deep));
        }
        let fault = read(&within(1, &within(2, &within(2, &within(9, &within(2, &deep)))))).expect_err("too deep");
        assert!(fault.message.contains("deeper"), "{fault}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(anything::<u8>(), 0..400)) {
            let _ = read(&bytes);
        }
        #[test]
        fn no_change_of_a_request_makes_it_panic(at in 0usize..4000, byte in anything::<u8>()) {
            let mut bytes = fixture();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = read(&bytes);
        }
    }
}
