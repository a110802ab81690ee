//! What every server answers: remote commands and the negotiation of security.

structure! {
/// A remote command; answered with a `string`.
"command" => pub struct Command<'a> {
    1 cmd: &'a str,
    2 arguments: Vec<&'a str>,
}
}

enumeration! {
/// A step of negotiating security.
"negotiation_status" => pub enum NegotiationStatus {
    Invalid = 0,
    SaslListMechanisms = 1,
    SaslListMechanismsResp = 2,
    SaslSelectMechanisms = 3,
    SaslSelectMechanismsResp = 4,
    SaslInitiate = 5,
    SaslChallenge = 6,
    SaslChallengeResp = 7,
    SaslSucc = 8,
    /// The server wants none.
    SaslAuthDisable = 9,
    SaslAuthFail = 10,
}
}

structure! {
/// Negotiation of security.
"negotiation_request" => pub struct NegotiationRequest<'a> {
    1 status: NegotiationStatus,
    2 msg: &'a [u8],
}
}

structure! {
/// Answer to it.
"negotiation_response" => pub struct NegotiationResponse<'a> {
    1 status: NegotiationStatus,
    2 msg: &'a [u8],
}
}
