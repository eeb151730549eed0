use super::*;

#[test]
fn a_request_is_known_to_be_whole_in_whatever_pieces_it_is_written() {
    let two = b"POST /a HTTP/1.1\r\ncontent-length: 16\r\n\r\nGET / HTTP/1.1\r\n";
    let none = b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
    for request in [&two[..], &none[..]] {
        for piece in 1..request.len() {
            let mut sending = Sending::Head(Vec::new());
            for bytes in request.chunks(piece) {
                assert_ne!(sending, Sending::Nothing, "{piece} at once");
                sending.wrote(bytes);
            }
            assert_eq!(sending, Sending::Nothing, "{piece} at once");
        }
    }
}
