//! RFC 4475 sections 3.1.2 and 3.2: messages that are invalid, and one that the transaction layer must not trip over.

use crate::story::{address, tell};
use signalbox_sip::HeaderName;
use signalbox_sip::MalformedReason as Reason;

#[test]
pub(crate) fn rfc_4475_3_1_2_1_extraneous_header_field_separators() {
    tell("badinv01", |story| {
        assert_eq!(story.unreadable(), Reason::BadHeader(HeaderName::Via));
        story.answered(400);
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_2_2_content_length_larger_than_message() {
    tell("clerr", |story| {
        assert_eq!(story.refused(), Reason::BodyTruncated);
        story.answered(400);
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_2_3_negative_content_length() {
    tell("ncl", |story| {
        assert_eq!(story.refused(), Reason::BadContentLength);
        story.answered(400);
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_2_4_request_scalar_fields_with_overlarge_values() {
    tell("scalar02", |story| {
        assert_eq!(story.refused(), Reason::BadCSeq);
        story.answered(400);
        // Where only what else is too large is wrong, it is as large as can be: the registrar has the word.
        let text = String::from_utf8(story.bytes.clone()).expect("text");
        story.bytes = text.replace("36893488147419103232 REGISTER", "3 REGISTER").into_bytes();
        assert_eq!(address(&story.valid(), HeaderName::Contact).expires(), Some(u32::MAX));
        story.forwarded();
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_2_5_response_scalar_fields_with_overlarge_values() {
    tell("scalarlg", |story| {
        assert_eq!(story.refused(), Reason::BadCSeq);
        story.dropped();
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_2_6_unterminated_quoted_string_in_display_name() {
    tell("quotbal", |story| {
        assert_eq!(story.unreadable(), Reason::BadHeader(HeaderName::To));
        story.answered(400);
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_2_7_brackets_enclosing_request_uri() {
    tell("ltgtruri", |story| {
        assert_eq!(story.refused(), Reason::BadRequestUri);
        story.answered(400);
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_2_8_malformed_sip_request_uri_with_embedded_lws() {
    tell("lwsruri", |story| {
        assert_eq!(story.refused(), Reason::BadRequestUri);
        story.answered(400);
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_2_9_multiple_sp_separating_request_line_elements() {
    tell("lwsstart", |story| {
        assert_eq!(story.refused(), Reason::BadRequestUri);
        story.answered(400);
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_2_10_sp_characters_at_the_end_of_the_request_line() {
    tell("trws", |story| {
        assert_eq!(story.refused(), Reason::BadStartLine);
        story.answered(400);
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_2_11_escaped_headers_in_sip_request_uri() {
    tell("escruri", |story| {
        // Forwarded it would be wrong in any case: the headers must neither stay in the URI nor become headers.
        assert_eq!(story.unreadable(), Reason::BadRequestUri);
        story.answered_readably(400);
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_2_12_invalid_time_zone_in_date_header_field() {
    tell("baddate", |story| {
        let date = story.valid().value(HeaderName::Date).expect("a date").to_vec();
        assert!(date.ends_with(b"EST"));
        let sent = story.forwarded();
        let sent = sent.message().expect("readable");
        assert_eq!(sent.value(HeaderName::Date), Some(date.as_slice()), "no business of an edge");
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_2_13_failure_to_enclose_name_addr_uri_in_brackets() {
    tell("regbadct", |story| {
        assert_eq!(story.unreadable(), Reason::BadHeader(HeaderName::Contact));
        story.answered_readably(400);
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_2_14_spaces_within_addr_spec() {
    tell("badaspec", |story| {
        // Liberal: what it means is beyond doubt.
        let message = story.valid();
        assert_eq!(address(&message, HeaderName::To).uri, b"sip:t.watson@example.org");
        story.forwarded();
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_2_15_non_token_characters_in_display_name() {
    tell("baddn", |story| {
        // Liberal: From and To are no lists, so the comma can only belong to the name.
        let message = story.valid();
        assert_eq!(address(&message, HeaderName::From).uri, b"sip:a.g.bell@example.com");
        assert_eq!(message.from_tag(), story.valid().from_tag());
        assert!(message.from_tag().is_some());
        story.forwarded();
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_2_16_unknown_protocol_version() {
    tell("badvers", |story| {
        assert_eq!(story.refused(), Reason::BadVersion);
        let answer = story.answered(505);
        assert!(answer.bytes.starts_with(b"SIP/2.0 505 "), "in the version that we speak");
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_2_17_start_line_and_cseq_method_mismatch() {
    tell("mismatch01", |story| {
        assert_eq!(story.refused(), Reason::CSeqMethodMismatch);
        story.answered(400);
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_2_18_unknown_method_with_cseq_method_mismatch() {
    tell("mismatch02", |story| {
        assert_eq!(story.refused(), Reason::CSeqMethodMismatch);
        story.answered(400);
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_2_19_overlarge_response_code() {
    tell("bigcode", |story| {
        assert_eq!(story.refused(), Reason::BadStatus);
        story.dropped();
    });
}

#[test]
pub(crate) fn rfc_4475_3_2_1_missing_transaction_identifier() {
    tell("badbranch", |story| {
        let message = story.valid();
        assert!(!message.top_via().expect("a Via").has_magic_cookie(), "the cookie alone identifies nothing");
        story.forwarded();
        // The same again is a retransmission, by the rules of RFC 2543 (RFC 3261 §17.2.3) …
        let (pbx, _) = story.send();
        assert_eq!(pbx.len(), 0, "absorbed");
        // … and another request with the same branch is none.
        let text = String::from_utf8(story.bytes.clone()).expect("text");
        let (pbx, _) = story.send_other(text.replace("Call-ID: ", "Call-ID: another.").as_bytes());
        assert_eq!(pbx.len(), 1, "another transaction");
    });
}
