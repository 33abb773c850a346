use std::sync::Arc;

use http_body_util::BodyExt;
use http_body_util::StreamBody;
use tokio_stream::StreamExt;
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::step::{Last, StepLayer, Steps};

const UNARY: &str = "/parlance.message.v1.MessageService/SendMessage";
const UPLOAD: &str = "/parlance.message.v1.AttachmentService/UploadAttachment";
const STREAM: &str = "/parlance.message.v1.StreamService/Subscribe";

fn request(path: &str, timeout: Option<&str>) -> Request<Body> {
    let mut request = Request::builder().uri(path);
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", timeout);
    }
    request.body(Body::empty()).expect("a request")
}

/// Answers after `delay`, with a body that gives a frame a second for ever.
async fn answer(
    path: &str,
    timeout: Option<&str>,
    delay: Duration,
) -> (Response<Body>, Option<Deadline>) {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let sender = Arc::new(std::sync::Mutex::new(Some(sender)));
    let service = service_fn(move |request: Request<Body>| {
        let sender = sender.lock().expect("a lock").take();
        async move {
            let seen = request.extensions().get::<Deadline>().copied();
            sender.map(|sender| sender.send(seen));
            tokio::time::sleep(delay).await;
            let ticks = tokio_stream::wrappers::IntervalStream::new(tokio::time::interval(
                Duration::from_secs(1),
            ));
            let frames = ticks.map(|_| Ok::<_, Status>(Frame::data(Bytes::from_static(b"tick"))));
            Ok::<_, std::convert::Infallible>(Response::new(Body::new(StreamBody::new(frames))))
        }
    });
    let service = Steps::new(StepLayer(Deadlines::default()).layer(Last(service)));
    let response = service.oneshot(request(path, timeout)).await.expect("an answer");
    (response, receiver.await.ok().flatten())
}

fn reason(headers: &HeaderMap) -> Option<Reason> {
    Reason::of(&Status::from_header_map(headers)?)
}

#[test]
fn every_unit_of_a_timeout_is_read_and_nothing_else() {
    let good = [
        ("1H", Duration::from_hours(1)),
        ("2M", Duration::from_mins(2)),
        ("3S", Duration::from_secs(3)),
        ("4m", Duration::from_millis(4)),
        ("5u", Duration::from_micros(5)),
        ("6n", Duration::from_nanos(6)),
        ("0S", Duration::ZERO),
        ("99999999H", Duration::from_hours(99_999_999)),
    ];
    for (text, duration) in good {
        assert_eq!(parse(text), Some(duration), "{text}");
    }
    for bad in ["", "S", "1", "-1S", "+1S", "1.5S", "123456789S", "1s", "1 S", "1h", "é", "1é"] {
        assert_eq!(parse(bad), None, "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_takes_a_stream_and_answers_once_has_what_its_client_asks_for() {
    let hour = Duration::from_hours(1);
    let (response, deadline) = answer(UPLOAD, None, hour).await;
    assert_eq!((reason(response.headers()), deadline), (None, None));
    let (response, _) = answer(UPLOAD, Some("30M"), hour).await;
    assert_eq!(reason(response.headers()), Some(Reason::DeadlineExceeded));
}

#[tokio::test(start_paused = true)]
async fn a_bad_timeout_is_an_invalid_argument() {
    let (response, _) = answer(UNARY, Some("soon"), Duration::ZERO).await;
    assert_eq!(reason(response.headers()), Some(Reason::InvalidField));
}

#[tokio::test(start_paused = true)]
async fn a_unary_call_has_ten_seconds_unless_its_client_says_otherwise() {
    for (timeout, secs) in [(None, 10), (Some("3S"), 3), (Some("1H"), 60)] {
        let began = Instant::now();
        let (response, seen) = answer(UNARY, timeout, Duration::from_hours(1)).await;
        assert_eq!(began.elapsed().as_secs(), secs, "{timeout:?}");
        assert_eq!(reason(response.headers()), Some(Reason::DeadlineExceeded));
        assert_eq!(seen, Some(Deadline(began + Duration::from_secs(secs))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_trailers_when_the_deadline_of_its_client_passes() {
    let (response, _) = answer(STREAM, Some("3500m"), Duration::ZERO).await;
    let mut body = response.into_body();
    let mut ticks = 0;
    let trailers = loop {
        let frame = body.frame().await.expect("a frame").expect("no error");
        match frame.into_trailers() {
            Ok(trailers) => break trailers,
            Err(_) => ticks += 1,
        }
    };
    assert_eq!(ticks, 4, "at 0, 1, 2 and 3 s");
    assert_eq!(reason(&trailers), Some(Reason::DeadlineExceeded));
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_client_asks_for_no_deadline_has_none() {
    let (response, seen) = answer(STREAM, None, Duration::ZERO).await;
    assert_eq!(seen, None);
    let mut body = response.into_body();
    for _ in 0..10_000 {
        let frame = body.frame().await.expect("a frame").expect("no error");
        assert!(frame.is_data());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_does_not_begin_is_given_up_whatever_its_client_asks_for() {
    for (timeout, secs) in [(None, 10), (Some("24H"), 10), (Some("10S"), 10), (Some("3S"), 3)] {
        let began = Instant::now();
        let (response, _) = answer(STREAM, timeout, Duration::from_hours(1)).await;
        assert_eq!(began.elapsed().as_secs(), secs, "{timeout:?}");
        assert_eq!(reason(response.headers()), Some(Reason::DeadlineExceeded));
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_sees_how_long_it_has() {
    let mut request = tonic::Request::new(());
    assert_eq!(remaining(&request), DEFAULT_DEADLINE);
    request.extensions_mut().insert(Deadline(Instant::now() + Duration::from_secs(3)));
    assert_eq!(remaining(&request), Duration::from_secs(3));
    tokio::time::advance(Duration::from_secs(4)).await;
    assert_eq!(remaining(&request), Duration::ZERO);
}
