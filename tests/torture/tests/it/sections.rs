//! The sections, each with its story: none is skipped, and how many pass is said.

use crate::story::published;
use crate::{
    rfc4475_application as application, rfc4475_invalid as invalid, rfc4475_valid as valid, rfc5118, say,
};
use signalbox_torture::text::Torture;
use std::panic::catch_unwind;

/// The RFC's name of the message, and its story.
type Row = (&'static str, fn());

const RFC_4475: [Row; 49] = [
    ("wsinv", valid::rfc_4475_3_1_1_1_a_short_tortuous_invite),
    ("intmeth", valid::rfc_4475_3_1_1_2_a_wide_range_of_valid_characters),
    ("esc01", valid::rfc_4475_3_1_1_3_valid_use_of_the_percent_escaping_mechanism),
    ("escnull", valid::rfc_4475_3_1_1_4_escaped_nulls_in_uris),
    ("esc02", valid::rfc_4475_3_1_1_5_use_of_percent_when_it_is_not_an_escape),
    ("lwsdisp", valid::rfc_4475_3_1_1_6_no_lws_between_display_name_and_bracket),
    ("longreq", valid::rfc_4475_3_1_1_7_long_values_in_header_fields),
    ("dblreq", valid::rfc_4475_3_1_1_8_extra_trailing_octets_in_a_udp_datagram),
    ("semiuri", valid::rfc_4475_3_1_1_9_semicolon_separated_parameters_in_the_user_part),
    ("transports", valid::rfc_4475_3_1_1_10_varied_and_unknown_transport_types),
    ("mpart01", valid::rfc_4475_3_1_1_11_s_mime_signed_message),
    ("unreason", valid::rfc_4475_3_1_1_12_unusual_reason_phrase),
    ("noreason", valid::rfc_4475_3_1_1_13_empty_reason_phrase),
    ("badinv01", invalid::rfc_4475_3_1_2_1_extraneous_header_field_separators),
    ("clerr", invalid::rfc_4475_3_1_2_2_content_length_larger_than_message),
    ("ncl", invalid::rfc_4475_3_1_2_3_negative_content_length),
    ("scalar02", invalid::rfc_4475_3_1_2_4_request_scalar_fields_with_overlarge_values),
    ("scalarlg", invalid::rfc_4475_3_1_2_5_response_scalar_fields_with_overlarge_values),
    ("quotbal", invalid::rfc_4475_3_1_2_6_unterminated_quoted_string_in_display_name),
    ("ltgtruri", invalid::rfc_4475_3_1_2_7_brackets_enclosing_request_uri),
    ("lwsruri", invalid::rfc_4475_3_1_2_8_malformed_sip_request_uri_with_embedded_lws),
    ("lwsstart", invalid::rfc_4475_3_1_2_9_multiple_sp_separating_request_line_elements),
    ("trws", invalid::rfc_4475_3_1_2_10_sp_characters_at_the_end_of_the_request_line),
    ("escruri", invalid::rfc_4475_3_1_2_11_escaped_headers_in_sip_request_uri),
    ("baddate", invalid::rfc_4475_3_1_2_12_invalid_time_zone_in_date_header_field),
    ("regbadct", invalid::rfc_4475_3_1_2_13_failure_to_enclose_name_addr_uri_in_brackets),
    ("badaspec", invalid::rfc_4475_3_1_2_14_spaces_within_addr_spec),
    ("baddn", invalid::rfc_4475_3_1_2_15_non_token_characters_in_display_name),
    ("badvers", invalid::rfc_4475_3_1_2_16_unknown_protocol_version),
    ("mismatch01", invalid::rfc_4475_3_1_2_17_start_line_and_cseq_method_mismatch),
    ("mismatch02", invalid::rfc_4475_3_1_2_18_unknown_method_with_cseq_method_mismatch),
    ("bigcode", invalid::rfc_4475_3_1_2_19_overlarge_response_code),
    ("badbranch", invalid::rfc_4475_3_2_1_missing_transaction_identifier),
    ("insuf", application::rfc_4475_3_3_1_missing_required_header_fields),
    ("unkscm", application::rfc_4475_3_3_2_request_uri_with_unknown_scheme),
    ("novelsc", application::rfc_4475_3_3_3_request_uri_with_known_but_atypical_scheme),
    ("unksm2", application::rfc_4475_3_3_4_unknown_uri_schemes_in_header_fields),
    ("bext01", application::rfc_4475_3_3_5_proxy_require_and_require),
    ("invut", application::rfc_4475_3_3_6_unknown_content_type),
    ("regaut01", application::rfc_4475_3_3_7_unknown_authorization_scheme),
    ("multi01", application::rfc_4475_3_3_8_multiple_values_in_single_value_required_fields),
    ("mcl01", application::rfc_4475_3_3_9_multiple_content_length_values),
    ("bcast", application::rfc_4475_3_3_10_200_ok_response_with_broadcast_via_header_field_value),
    ("zeromf", application::rfc_4475_3_3_11_max_forwards_of_zero),
    ("cparam01", application::rfc_4475_3_3_12_register_with_a_contact_header_parameter),
    ("cparam02", application::rfc_4475_3_3_13_register_with_a_url_parameter),
    ("regescrt", application::rfc_4475_3_3_14_register_with_a_url_escaped_header),
    ("sdp01", application::rfc_4475_3_3_15_unacceptable_accept_offering),
    ("inv2543", application::rfc_4475_3_4_1_invite_with_rfc_2543_syntax),
];

const RFC_5118: [Row; 12] = [
    ("ipv6-good", rfc5118::rfc_5118_4_1_valid_sip_message_with_an_ipv6_reference),
    ("ipv6-bad", rfc5118::rfc_5118_4_2_invalid_sip_message_with_an_ipv6_reference),
    ("port-ambiguous", rfc5118::rfc_5118_4_3_port_ambiguous_in_a_sip_uri),
    ("port-unambiguous", rfc5118::rfc_5118_4_4_port_unambiguous_in_a_sip_uri),
    ("via-received-param-with-delim", rfc5118::rfc_5118_4_5_ipv6_reference_delimiters_in_received),
    ("via-received-param-no-delim", rfc5118::rfc_5118_4_5_no_ipv6_reference_delimiters_in_received),
    ("ipv6-in-sdp", rfc5118::rfc_5118_4_6_sip_request_with_ipv6_addresses_in_sdp),
    ("mult-ip-in-header", rfc5118::rfc_5118_4_7_multiple_ip_addresses_in_sip_header_fields),
    ("mult-ip-in-sdp", rfc5118::rfc_5118_4_8_multiple_ip_addresses_in_sdp),
    ("ipv4-mapped-ipv6", rfc5118::rfc_5118_4_9_ipv4_mapped_ipv6_addresses),
    (
        "ipv6-correct-abnf-2-colons",
        rfc5118::rfc_5118_4_10_ipv6_reference_with_two_colons_as_the_corrected_abnf_has_it,
    ),
    (
        "ipv6-bug-abnf-3-colons",
        rfc5118::rfc_5118_4_10_ipv6_reference_with_three_colons_as_the_abnf_bug_had_it,
    ),
];

/// The test's name for a section: `rfc_4475_3_1_1_1_`.
fn prefix(rfc: &str, section: &str) -> String {
    format!("rfc_{rfc}_{}_", section.replace('.', "_"))
}

/// Runs every story again, and counts.
fn count(rfc: &str, rows: &[Row], messages: &[Torture]) {
    let named = |(row, message): (&Row, &Torture)| row.0 == message.name;
    assert_eq!(rows.len(), messages.len());
    assert!(rows.iter().zip(messages).all(named), "a story for each message, in the RFC's order");
    let failed: Vec<_> = rows.iter().filter(|row| catch_unwind(row.1).is_err()).map(|row| row.0).collect();
    let compared = messages.iter().filter(|message| published(message).is_some()).count();
    say(&format!(
        "torture: RFC {rfc}: {} of {} passed in our own bytes, {compared} of them also as the RFC published them",
        rows.len() - failed.len(),
        rows.len()
    ));
    assert!(failed.is_empty(), "{failed:?}");
    assert!(compared == 0 || compared == rows.len(), "part of the RFC's archive is missing");
}

/// Each story's test is named after its section.
#[test]
fn promise_8_every_section_of_the_rfcs_has_its_story() {
    let sources = [
        include_str!("rfc4475_valid.rs"),
        include_str!("rfc4475_invalid.rs"),
        include_str!("rfc4475_application.rs"),
        include_str!("rfc5118.rs"),
    ]
    .concat();
    for (rfc, messages) in
        [("4475", signalbox_torture::rfc4475::all()), ("5118", signalbox_torture::rfc5118::all())]
    {
        for message in messages {
            let (start, told) = (prefix(rfc, message.section), format!("tell(\"{}\"", message.name));
            let story = sources.split("#[test]").find(|text| text.contains(&told)).expect("a story");
            assert!(story.contains(&format!("fn {start}")), "{}: {start}", message.name);
        }
    }
}

#[test]
fn promise_8_messages_of_the_rfcs_meet_their_fate() {
    count("4475", &RFC_4475, &signalbox_torture::rfc4475::all());
    count("5118", &RFC_5118, &signalbox_torture::rfc5118::all());
}
