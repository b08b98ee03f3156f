//! What went wrong with TLS, for an operator: who is at fault, and what to mend.

use rustls::{AlertDescription, CertificateError, Error};

/// A certificate that cannot be used, as the end of "its certificate: ...".
pub(super) fn certificate_fault(error: &Error) -> String {
    let Error::InvalidCertificate(why) = error else {
        return error.to_string();
    };
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_owned()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it is from no authority of director_ring_tls_ca".to_owned()
        }
        CertificateError::NotValidForName => {
            "its subjectAltName has not the director's address".to_owned()
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "its subjectAltName has not the director's address {}, only [{}]",
            expected.to_str(),
            presented.join(", ")
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its extended key usage must have both serverAuth and clientAuth, or be left out"
                .to_owned()
        }
        other => other.to_string(),
    }
}

/// Why TLS with another director has failed, as the end of "director 10.0.0.1: ...".
pub(super) fn fault(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(_) => {
            format!("its certificate is refused: {}", certificate_fault(error))
        }
        Error::NoCertificatesPresented => "it has no certificate".to_owned(),
        Error::AlertReceived(alert) => match refusal(*alert) {
            Some(why) => format!("it refuses our certificate: {why}"),
            None => format!("it has ended TLS: {alert:?}"),
        },
        other => format!("TLS has failed: {other}"),
    }
}

/// What an alert says of our certificate. It is Homing that sends it, so its choice is known.
fn refusal(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateExpired => "for it, that is expired or not valid yet",
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "for it, that is from an unknown authority"
        }
        AlertDescription::BadCertificate => {
            "it cannot be read, or does not name the address that we connect from"
        }
        AlertDescription::UnsupportedCertificate => {
            "its extended key usage must have both serverAuth and clientAuth, or be left out"
        }
        AlertDescription::CertificateRequired => "we sent none",
        AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => "it does not say why",
        _ => return None,
    })
}
