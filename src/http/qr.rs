//! `GET /sessions/{id}/qr.svg` and `qr.png`: the address for the person, to be scanned instead of typed.
//!
//! Always dark on light with the quiet zone of ISO/IEC 18004, also on a dark page: many scanners read nothing else.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use fast_qr::{ECL, QRBuilder, QRCode};
use sha2::{Digest, Sha256};

use super::Api;
use super::conditional::Reading;
use super::extract::Id;
use super::problem::{Code, Problem};
use crate::kernel::verdict::Prompt;

/// Light modules on every side.
const QUIET: usize = 4;
/// The least width of the PNG, in pixels; every module is a whole number of pixels.
const PNG_WIDTH: usize = 512;

/// An image, drawn only if it is sent.
struct Image {
    media: &'static str,
    draw: fn(&QRCode) -> Option<Vec<u8>>,
}

pub async fn svg(State(api): State<Arc<Api>>, Id(id): Id, reading: Reading) -> Result<Response, Problem> {
    answer(&api, id, &reading, &Image { media: "image/svg+xml", draw: |code| Some(to_svg(code).into_bytes()) })
}

pub async fn png(State(api): State<Arc<Api>>, Id(id): Id, reading: Reading) -> Result<Response, Problem> {
    answer(&api, id, &reading, &Image { media: "image/png", draw: to_png })
}

/// The address with the code in it, where the provider has one.
pub fn address(prompt: &Prompt) -> &str {
    prompt.verification_uri_complete.as_deref().unwrap_or(&prompt.verification_uri)
}

/// Medium error correction, a glossy screen's reflection say; low where the address is too long for that.
pub fn encode(address: &str) -> Option<QRCode> {
    [ECL::M, ECL::L].into_iter().find_map(|level| QRBuilder::new(address).ecl(level).build().ok())
}

/// One path of one rectangle for each run of dark modules, without anything that a content security policy would forbid.
pub fn to_svg(code: &QRCode) -> String {
    let width = code.size + 2 * QUIET;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {width}\" shape-rendering=\"crispEdges\">\
         <path fill=\"#fff\" d=\"M0 0h{width}v{width}H0z\"/><path fill=\"#000\" d=\""
    );
    for y in 0..code.size {
        let mut x = 0;
        while x < code.size {
            let run = (x..code.size).take_while(|x| is_dark(code, *x, y)).count();
            if run > 0 {
                // Writing to a string does not fail.
                let _ = write!(svg, "M{} {}h{run}v1h-{run}z", x + QUIET, y + QUIET);
            }
            x += run.max(1);
        }
    }
    svg.push_str("\"/></svg>");
    svg
}

/// One bit a pixel: 0 is dark.
fn to_png(code: &QRCode) -> Option<Vec<u8>> {
    let modules = code.size + 2 * QUIET;
    let scale = PNG_WIDTH.div_ceil(modules);
    let width = modules * scale;
    let mut pixels = vec![0xff_u8; width.div_ceil(8) * width];
    for (y, row) in pixels.chunks_exact_mut(width.div_ceil(8)).enumerate() {
        for x in 0..width {
            let dark = match ((x / scale).checked_sub(QUIET), (y / scale).checked_sub(QUIET)) {
                (Some(x), Some(y)) => x < code.size && y < code.size && is_dark(code, x, y),
                _ => false,
            };
            if let (true, Some(byte)) = (dark, row.get_mut(x / 8)) {
                *byte &= !(0x80 >> (x % 8));
            }
        }
    }
    let mut file = Vec::new();
    let side = u32::try_from(width).ok()?;
    let mut encoder = png::Encoder::new(&mut file, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels)).ok()?;
    Some(file)
}

#[expect(clippy::indexing_slicing, reason = "callers stay within the size of the code")]
fn is_dark(code: &QRCode, x: usize, y: usize) -> bool {
    code[y][x].value()
}

fn answer(api: &Api, id: uuid::Uuid, reading: &Reading, image: &Image) -> Result<Response, Problem> {
    let session = api.sessions.get(id).ok_or(Code::SessionNotFound)?;
    let address = address(session.prompt().ok_or(Code::SessionNotFound)?);
    let tag = format!("\"{}\"", BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{} {address}", image.media))));
    let mut response = if reading.known.matches(&tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let code = encode(address).ok_or(Code::InternalError)?;
        let file = (image.draw)(&code).ok_or(Code::InternalError)?;
        ([(header::CONTENT_TYPE, image.media), (header::CONTENT_SECURITY_POLICY, "default-src 'none'")], file).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, HeaderValue::try_from(tag).map_err(|_| Code::InternalError)?);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    Ok(response)
}
