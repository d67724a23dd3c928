//! `GET /sessions/{id}/qr.svg` and `qr.png`, read back by a decoder.

use crate::service::{Beginning, Service};

const QUIET: usize = 4;

/// Whether each pixel is dark, row by row.
struct Bitmap {
    width: usize,
    dark: Vec<bool>,
}

#[tokio::test]
async fn both_images_say_the_complete_address() {
    let uri = "https://id.acme.test/device";
    let long: &'static str = format!("https://id.acme.test/device?state={}", "x".repeat(2000)).leak();
    for complete in [None, Some("https://id.acme.test/device?user_code=WDJB-MJHT"), Some(long)] {
        let service = Service::plain();
        service.provider.begins(Beginning::Prompt { user_code: "WDJB-MJHT", uri, complete });
        let session = service.pending().await;
        for image in [svg(&service, &session.path()).await, png(&service, &session.path()).await] {
            assert_eq!(scan(&image), complete.unwrap_or(uri));
        }
    }
}

#[tokio::test]
async fn the_code_stands_in_a_quiet_zone_and_is_large_enough() {
    let service = Service::plain();
    let session = service.pending().await;
    let (svg, png) = (svg(&service, &session.path()).await, png(&service, &session.path()).await);
    let module = png.width / svg.width;
    assert!(png.width >= 512 && png.width.is_multiple_of(svg.width));
    for (image, module) in [(svg, 1), (png, module)] {
        let quiet = QUIET * module;
        let is_outside = |at: usize| at < quiet || at >= image.width - quiet;
        for (at, dark) in image.dark.iter().enumerate() {
            assert!(!(*dark && (is_outside(at % image.width) || is_outside(at / image.width))), "a dark pixel in the quiet zone");
        }
        assert!(image.dark[quiet * image.width + quiet], "a finder pattern begins at its edge");
    }
}

#[tokio::test]
async fn an_image_is_sent_once() {
    let service = Service::plain();
    let session = service.pending().await;
    let (svg, png) = (format!("{}/qr.svg", session.path()), format!("{}/qr.png", session.path()));
    let first = service.get(&svg).await;
    assert_eq!(first.header("content-security-policy"), Some("default-src 'none'"));
    let tag = first.header("etag").unwrap();
    assert_eq!(service.get_with(&svg, &[("if-none-match", tag)]).await.status, 304);
    assert_eq!(service.get_with(&png, &[("if-none-match", tag)]).await.status, 200);
    // What becomes of the session does not change the address.
    assert_eq!(service.delete(&session).await.status, 204);
    assert_eq!(service.get_with(&svg, &[("if-none-match", tag)]).await.status, 304);
}

fn scan(image: &Bitmap) -> String {
    // The decoder wants a few pixels for each module.
    let scale = 2048_usize.div_ceil(image.width).min(6);
    let grey = |x: usize, y: usize| if image.dark[y / scale * image.width + x / scale] { 0 } else { 255 };
    let width = image.width * scale;
    let mut prepared = rqrr::PreparedImage::prepare_from_greyscale(width, width, grey);
    let [grid] = &prepared.detect_grids()[..] else { panic!("not one QR code") };
    grid.decode().expect("a readable code").1
}

/// The rectangles of the path of dark modules, one pixel a module.
async fn svg(service: &Service, path: &str) -> Bitmap {
    let answer = service.get(&format!("{path}/qr.svg")).await;
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let between = |before: &str, after: &str| {
        let (_, rest) = answer.text().split_once(before).expect(before);
        rest.split_once(after).expect(after).0.to_owned()
    };
    let width = number(&between("viewBox=\"0 0 ", " "));
    let mut dark = vec![false; width * width];
    for rectangle in between("fill=\"#000\" d=\"M", "z\"/>").split("zM") {
        let (corner, rest) = rectangle.split_once('h').expect("a width");
        let (x, y) = corner.split_once(' ').expect("a corner");
        let (run, rest) = rest.split_once("v1").expect("one row");
        assert_eq!(rest, format!("h-{run}"));
        let start = number(y) * width + number(x);
        dark[start..start + number(run)].fill(true);
    }
    Bitmap { width, dark }
}

async fn png(service: &Service, path: &str) -> Bitmap {
    let answer = service.get(&format!("{path}/qr.png")).await;
    let mut decoder = png::Decoder::new(std::io::Cursor::new(&answer.body));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    let info = reader.next_frame(&mut pixels).expect("an image");
    assert_eq!(info.width, info.height);
    Bitmap { width: info.width as usize, dark: pixels.iter().map(|pixel| *pixel < 128).collect() }
}
