//! The door, driven as a client drives it.

use crate::server::{Waits, serve_with};
use crate::*;
use async_trait::async_trait;
use futures::StreamExt;
use gristmill_kernel::port::Ids;
use gristmill_kernel::{Actor, Code, Fault, Kind, Result, RunId};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// `reader` may read, `root` may do everything.
struct Keeper;

#[async_trait]
impl Doorkeeper for Keeper {
    async fn admit(&self, credentials: Credentials<'_>, permission: Permission) -> Result<Caller> {
        let who = credentials.authorization.and_then(|a| a.strip_prefix("Bearer "));
        let caller = |name: &str, role: &str| Ok(Caller { actor: Actor::user(name), role: role.into() });
        match who {
            Some("root") => caller("root", "admin"),
            Some("reader") if permission == Permission::ReadProject => caller("reader", "viewer"),
            Some("reader") => Err(Fault::new(Kind::Denied, Code::NOT_ALLOWED, "the role viewer may not do this")),
            _ => Err(Fault::new(Kind::Unauthenticated, Code::NOT_AUTHENTICATED, "no token").fix("gristmill login")),
        }
    }
}

#[derive(Default)]
struct Counter(AtomicU64);

impl Ids for Counter {
    fn run(&self) -> RunId {
        RunId(format!("{:032x}", self.0.fetch_add(1, Ordering::Relaxed)))
    }
    fn random(&self, out: &mut [u8]) {
        let n = self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        out.iter_mut().enumerate().for_each(|(i, b)| *b = n[i % 8]);
    }
}

#[derive(serde::Deserialize, serde::Serialize)]
struct Sum {
    a: i64,
    b: i64,
}

fn app() -> App {
    let fail = |kind: Kind| move |_: Call| async move { Err(Fault::new(kind, Code::IO, "secret path /etc/x").because("the cause")) };
    let routes = Routes::new()
        .with(route(Method::GET, "/open", Permission::Public, |_| async { json(&"open") }).about("Anybody"))
        .with(route(Method::GET, "/things/{name}", Permission::ReadProject, |call: Call| async move {
            json(
                &serde_json::json!({ "name": call.param("name")?, "actor": call.caller().actor.0, "secret": call.header("authorization") }),
            )
        }))
        .with(route(Method::POST, "/sum", Permission::SubmitRun, |call: Call| async move {
            let sum: Sum = call.json().await?;
            json(&(sum.a + sum.b))
        }))
        .with(
            route(Method::POST, "/small", Permission::Ingest, |call: Call| async move { json(&call.bytes().await?.len()) })
                .body_limit(1_000)
                .errors(
                    |status, fault, _| serde_json::json!({ "error": fault.message, "was": status.as_u16() }),
                    ErrorSchema { name: "Odd", schema: schema::any },
                ),
        )
        .with(route(Method::GET, "/panics", Permission::ReadProject, |_| async { panic!("on purpose") }))
        .with(
            route(Method::GET, "/slow", Permission::Public, |_| async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                json(&"late")
            })
            .timeout(Duration::from_secs(5)),
        )
        .with(
            route(Method::GET, "/too-slow", Permission::Public, |_| async {
                tokio::time::sleep(Duration::from_secs(60)).await;
                json(&"never")
            })
            .timeout(Duration::from_millis(20)),
        )
        .with(route(Method::GET, "/io", Permission::Public, fail(Kind::Unavailable)))
        .with(route(Method::GET, "/busy", Permission::Public, fail(Kind::Busy)));
    App::new(routes, door()).expect("the routes fit")
}

fn door() -> Door {
    Door { keeper: Arc::new(Keeper), hosts: Hosts::new(["mill.example".to_owned()]), ids: Arc::new(Counter::default()) }
}

fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "localhost:7300")
}

async fn answer(request: Request<Body>) -> (u16, HeaderMap, serde_json::Value) {
    let response = app().handle(request).await;
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    (parts.status.as_u16(), parts.headers, serde_json::from_slice(&bytes).unwrap_or_default())
}

fn empty(builder: http::request::Builder) -> Request<Body> {
    builder.body(Body::empty()).expect("a request")
}

#[tokio::test]
async fn every_route_that_is_not_public_refuses_strangers_and_says_how_to_come_in() {
    let routes = [("GET", "/things/x"), ("POST", "/sum"), ("POST", "/small"), ("GET", "/panics")];
    for (method, path) in routes {
        let (status, headers, _) = answer(empty(request(method, path))).await;
        assert_eq!((status, headers.contains_key("www-authenticate")), (401, true), "{method} {path}");
    }
    let (status, _, body) = answer(empty(request("POST", "/sum").header("authorization", "Bearer reader"))).await;
    assert_eq!((status, body["code"].as_str()), (403, Some("E0506")));
}

#[tokio::test]
async fn an_admitted_call_knows_its_caller_and_not_the_token() {
    let (status, headers, body) = answer(empty(request("GET", "/things/a%20b").header("authorization", "Bearer reader"))).await;
    assert_eq!((status, &body), (200, &serde_json::json!({ "name": "a b", "actor": "user:reader", "secret": null })));
    assert!(headers["content-security-policy"].to_str().expect("text").starts_with("default-src 'none'"));
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["cache-control"], "no-store");
}

#[tokio::test]
async fn what_answers_a_write_says_only_what_a_client_needs() {
    for (token, full) in [("root", false), ("reader", true)] {
        let call = request("POST", "/sum").header("authorization", format!("Bearer {token}")).header("content-type", "application/json");
        let (status, headers, body) = answer(call.body(Body::from(r#"{"a":1,"b":2}"#)).expect("a request")).await;
        assert_eq!(status == 200, !full, "{body}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["cross-origin-resource-policy"], "same-origin");
        for name in ["content-security-policy", "cache-control"] {
            assert_eq!(headers.contains_key(name), full, "{name} of an answer with {status}");
        }
    }
}

#[tokio::test]
async fn hosts_and_origins_of_others_are_refused_for_all_methods() {
    for (method, host, origin, wanted) in [
        ("GET", "localhost:7300", None, 200),
        ("GET", "127.0.0.1:7300", None, 200),
        ("GET", "[::1]:7300", None, 200),
        ("GET", "mill.example", None, 200),
        ("GET", "MILL.example.:80", None, 200),
        ("GET", "evil.example", None, 403),
        ("GET", "localhost.evil.example", None, 403),
        ("GET", "evil.example@localhost", None, 403),
        ("GET", "localhost:7300", Some("http://localhost:7300"), 200),
        ("GET", "localhost:7300", Some("http://localhost:9999"), 403),
        ("GET", "localhost:7300", Some("https://evil.example"), 403),
        ("GET", "localhost:7300", Some("null"), 403),
        ("POST", "localhost:7300", Some("https://evil.example"), 403),
    ] {
        let mut builder = Request::builder().method(method).uri("/open").header("host", host);
        if let Some(origin) = origin {
            builder = builder.header("origin", origin);
        }
        let (status, _, body) = answer(empty(builder)).await;
        assert_eq!(status, wanted, "{method} {host} {origin:?}: {body}");
    }
    let (status, ..) = answer(empty(Request::builder().uri("/open"))).await;
    assert_eq!(status, 403, "without a host");
    let twice = Request::builder().uri("/open").header("host", "localhost").header("host", "evil.example");
    assert_eq!(answer(empty(twice)).await.0, 403, "two hosts");
}

#[tokio::test]
async fn bodies_are_limited_and_read_after_admission() {
    let post =
        |path: &str, body: String| request("POST", path).header("authorization", "Bearer root").body(Body::from(body)).expect("a request");
    assert_eq!(answer(post("/sum", r#"{"a":1,"b":2}"#.into())).await.2, 3);
    let (status, _, body) = answer(post("/sum", r#"{"a":1}"#.into())).await;
    assert_eq!((status, body["code"].as_str()), (400, Some("E0504")));
    assert!(body["message"].as_str().expect("text").contains("missing field `b`"), "{body}");
    let (status, _, body) = answer(post("/sum", format!("{}1{}", "[".repeat(65), "]".repeat(65)))).await;
    assert_eq!((status, body["message"].as_str()), (400, Some("the JSON is nested deeper than 64")));
    let text = format!(r#"{{"a":1,"b":2,"c":"{}"}}"#, "[".repeat(100));
    assert_eq!(answer(post("/sum", text)).await.0, 200, "brackets in text are no depth");
    assert_eq!(answer(post("/small", "x".repeat(1_000))).await.2, 1_000);
    let (status, _, body) = answer(post("/small", "x".repeat(1_001))).await;
    assert_eq!((status, &body), (413, &serde_json::json!({ "error": "the body is larger than 1000 bytes", "was": 413 })));
    // Without an announced length the limit holds while reading.
    let parts = futures::stream::iter((0..100).map(|_| Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[b'x'; 100]))));
    let endless = request("POST", "/small").header("authorization", "Bearer root").body(Body::from_stream(parts)).expect("a request");
    assert_eq!(answer(endless).await.0, 413);
    // A stranger's body is not touched: this stream would fail the test if it were polled.
    let trap = futures::stream::poll_fn(|_| -> std::task::Poll<Option<std::io::Result<bytes::Bytes>>> { panic!("the body was read") });
    let stranger = request("POST", "/small").body(Body::from_stream(trap)).expect("a request");
    assert_eq!(answer(stranger).await.0, 401);
}

#[tokio::test]
async fn failures_leave_in_one_shape_without_details() {
    let (status, headers, body) = answer(empty(request("GET", "/io"))).await;
    assert_eq!((status, headers["retry-after"].to_str().ok()), (503, Some("1")));
    assert!(!body.to_string().contains("/etc") && !body.to_string().contains("cause"), "{body}");
    assert_eq!(body["id"].as_str().map(str::len), Some(16));
    assert_eq!(headers["x-request-id"], body["id"].as_str().expect("an id"));
    assert_eq!(answer(empty(request("GET", "/busy"))).await.1["retry-after"], "1");
    let (status, _, body) = answer(empty(request("GET", "/panics").header("authorization", "Bearer root"))).await;
    assert_eq!((status, body["code"].as_str()), (500, Some("E0999")));
    assert!(!body.to_string().contains("on purpose"));
    let (status, _, body) = answer(empty(request("GET", "/too-slow"))).await;
    assert_eq!((status, body["code"].as_str()), (504, Some("E0703")));
    let (status, _, body) = answer(empty(request("GET", "/nowhere"))).await;
    assert_eq!((status, body["code"].as_str(), body["message"].as_str()), (404, Some("E0509"), Some("there is no GET /nowhere")));
    let (status, headers, _) = answer(empty(request("DELETE", "/open"))).await;
    assert_eq!((status, headers["allow"].to_str().ok()), (405, Some("GET")));
    assert_eq!(answer(empty(request("HEAD", "/open"))).await.0, 200);
}

#[test]
fn routes_in_each_others_way_are_found_when_the_app_is_made() {
    let one = |path: &str| route(Method::GET, path, Permission::Public, |_| async { json(&1) });
    for pair in [["/a/{x}", "/a/{x}"], ["/a/{x}", "/a/{y}"]] {
        let routes = Routes::from(pair.map(one).to_vec());
        assert!(App::new(routes, door()).is_err(), "{pair:?}");
    }
    assert!(App::new(Routes::from(vec![one("a")]), door()).is_err(), "a path without a slash");
    for pair in [["/a/{*rest}", "/a/{x}"], ["/a/{*rest}", "/a/{x}/b"], ["/a/{x}/b", "/a/{*rest}"]] {
        assert!(App::new(Routes::from(pair.map(one).to_vec()), door()).is_err(), "{pair:?}");
    }
    for pair in [["/a/{*rest}", "/a"], ["/a/{*rest}", "/a/fixed"], ["/a/{*rest}", "/b/{x}"]] {
        assert!(App::new(Routes::from(pair.map(one).to_vec()), door()).is_ok(), "{pair:?}");
    }
}

/// An app whose one route counts what comes in, with little patience.
fn counting() -> App {
    let count = |call: Call| async move {
        let mut pieces = call.stream();
        let mut bytes = 0;
        while let Some(piece) = pieces.next().await {
            bytes += piece?.len();
        }
        json(&bytes)
    };
    let count = route(Method::PUT, "/files/{*path}", Permission::Ingest, count).body_limit(1_000).streamed();
    App::new(Routes::new().with(count.timeout(Duration::from_millis(100))), door()).expect("the route fits")
}

async fn upload(pieces: usize, pause: Duration) -> (u16, serde_json::Value) {
    let pieces = futures::stream::iter(0..pieces).then(move |_| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[b'x'; 100]))
    });
    let request = request("PUT", "/files/a/b").header("authorization", "Bearer root").body(Body::from_stream(pieces)).expect("a request");
    let response = counting().handle(request).await;
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    (parts.status.as_u16(), serde_json::from_slice(&bytes).unwrap_or_default())
}

#[tokio::test]
async fn a_streamed_body_may_take_its_time_but_not_stand_still() {
    assert_eq!(upload(10, Duration::from_millis(40)).await, (200, serde_json::json!(1_000)), "four times the route's time, always moving");
    assert_eq!(upload(11, Duration::ZERO).await.0, 413, "the limit holds while reading");
    let (status, body) = upload(1, Duration::from_secs(60)).await;
    assert_eq!((status, body["message"].as_str()), (504, Some("the request stood still for 100 ms")));
}

#[tokio::test]
async fn the_rest_of_a_path_is_decoded_once() {
    let say = route(Method::GET, "/files/{*path}", Permission::Public, |call: Call| async move { json(&call.param("path")?) });
    let app = App::new(Routes::new().with(say), door()).expect("the route fits");
    for (asked, heard) in [("a/b", "a/b"), ("a%2Fb", "a/b"), ("%252e%252e/x", "%2e%2e/x"), ("../x", "../x"), ("a//b/", "a//b/")] {
        let response = app.handle(empty(request("GET", &format!("/files/{asked}")))).await;
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(serde_json::from_slice::<String>(&bytes).expect("text"), heard, "{asked}");
    }
}

#[test]
fn the_metrics_page_is_put_together() {
    let page = MetricsPage::new();
    page.add(|| "a 1".into());
    page.add(String::new);
    page.add(|| "b 2\n".into());
    assert_eq!(page.render(), "a 1\nb 2\n");
    assert_eq!(label("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
}

async fn raw(address: std::net::SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(text.as_bytes()).await.expect("writes");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn listening() -> (TcpListener, std::net::SocketAddr) {
    let listener = bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

fn waits() -> Waits {
    Waits { connections: 8, headers: Duration::from_millis(200), drain: Duration::from_secs(5) }
}

#[tokio::test]
async fn a_port_in_use_names_the_next_one() {
    let (_held, address) = listening().await;
    let fault = bind(address).await.expect_err("in use");
    assert_eq!(fault.code, Code::PORT_IN_USE);
    assert!(fault.fix.expect("a fix").contains(&format!("--port {}", address.port() + 1)));
}

/// What a connection says until it says nothing for a moment.
async fn so_far(stream: &mut TcpStream) -> String {
    let (mut text, mut part) = (Vec::new(), [0; 4_096]);
    while let Ok(Ok(read @ 1..)) = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut part)).await {
        text.extend_from_slice(&part[..read]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn an_answer_that_waits_sends_its_head_first_and_breaks_off_if_it_fails() {
    let (tell, told) = tokio::sync::mpsc::unbounded_channel::<Result<()>>();
    let told = Arc::new(tokio::sync::Mutex::new(told));
    let waiting = move |_: Call| {
        let told = Arc::clone(&told);
        async move { Ok(json_after("{}", async move { told.lock().await.recv().await.expect("an outcome") })) }
    };
    let routes = Routes::new().with(route(Method::POST, "/wait", Permission::Public, waiting).about("Waits"));
    let app = App::new(routes, door()).expect("routes");
    let (listener, address) = listening().await;
    let server = tokio::spawn(serve_with(listener, app, std::future::pending(), waits()));
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let ask = b"POST /wait HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    for _ in 0..2 {
        stream.write_all(ask).await.expect("writes");
        let head = so_far(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-length: 2") && head.ends_with("\r\n\r\n"), "{head}");
        tell.send(Ok(())).expect("it waits");
        assert_eq!(so_far(&mut stream).await, "{}", "and the connection goes on");
    }
    stream.write_all(ask).await.expect("writes");
    assert!(so_far(&mut stream).await.ends_with("\r\n\r\n"));
    tell.send(Err(Fault::new(Kind::Unavailable, Code::IO, "the disk is gone"))).expect("it waits");
    let mut rest = Vec::new();
    let _broken = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "nothing that could be taken for an answer");
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_head_is_on_its_way_before_what_is_waited_for_takes_the_thread() {
    let block = |_: Call| async {
        Ok(json_after("{}", async {
            std::thread::sleep(Duration::from_millis(400));
            Ok(())
        }))
    };
    let routes = Routes::new().with(route(Method::POST, "/block", Permission::Public, block).about("Blocks"));
    let (listener, address) = listening().await;
    let server = tokio::spawn(serve_with(listener, App::new(routes, door()).expect("routes"), std::future::pending(), waits()));
    // A client with a thread of its own: the one that is taken may be the one that looks after sockets and timers.
    let asked = tokio::task::spawn_blocking(move || {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(address).expect("connects");
        stream.write_all(b"POST /block HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").expect("writes");
        let mut part = [0; 4_096];
        let read = stream.read(&mut part).expect("reads");
        let mut rest = String::new();
        stream.read_to_string(&mut rest).expect("reads");
        (String::from_utf8_lossy(&part[..read]).into_owned(), rest)
    });
    let (head, rest) = asked.await.expect("answered");
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(rest, "{}");
    server.abort();
}

#[tokio::test]
async fn stopping_answers_what_is_in_flight() {
    let (listener, address) = listening().await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve_with(listener, app(), async { drop(stopped.await) }, waits()));
    let slow = tokio::spawn(raw(address, "GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.send(()).expect("the server listens");
    let text = slow.await.expect("answered");
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("\"late\""), "{text}");
    assert_eq!(server.await.expect("ended"), Drained { complete: true });
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_client_that_dribbles_its_headers_is_cut_off_and_too_many_connections_are_turned_away() {
    let (listener, address) = listening().await;
    let server = tokio::spawn(serve_with(listener, app(), std::future::pending(), waits()));
    let began = std::time::Instant::now();
    let text = raw(address, "GET /open HTTP/1.1\r\nhost: loc").await;
    assert!(!text.contains("200 OK"), "{text}");
    assert!(began.elapsed() >= Duration::from_millis(150), "it had its time");
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(TcpStream::connect(address).await.expect("connects"));
    }
    tokio::time::sleep(Duration::from_millis(30)).await;
    let text = raw(address, "GET /open HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 503"), "{text}");
    // Those who say nothing lose their place, and the server answers again.
    tokio::time::sleep(Duration::from_millis(400)).await;
    let text = raw(address, "GET /open HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    server.abort();
}
