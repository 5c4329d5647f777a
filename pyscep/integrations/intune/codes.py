"""The closed sets of Intune's interface: verdicts on a request, results of a revocation."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final


class ResultCode(StrEnum):
    """What Intune answers to a request or a notification. Only SUCCESS lets a CA issue."""

    UNKNOWN = "Unknown"
    SUCCESS = "Success"
    CERTIFICATE_REQUEST_DECODING_FAILED = "CertificateRequestDecodingFailed"
    CHALLENGE_PASSWORD_MISSING = "ChallengePasswordMissing"  # noqa: S105 - a code's name
    CHALLENGE_DESERIALIZATION_ERROR = "ChallengeDeserializationError"
    CHALLENGE_DECRYPTION_ERROR = "ChallengeDecryptionError"
    CHALLENGE_DECODING_ERROR = "ChallengeDecodingError"
    CHALLENGE_INVALID_TIMESTAMP = "ChallengeInvalidTimestamp"
    CHALLENGE_EXPIRED = "ChallengeExpired"
    SUBJECT_NAME_MISSING = "SubjectNameMissing"
    SUBJECT_NAME_MISMATCH = "SubjectNameMismatch"
    SUBJECT_ALT_NAME_MISSING = "SubjectAltNameMissing"
    SUBJECT_ALT_NAME_MISMATCH = "SubjectAltNameMismatch"
    KEY_USAGE_MISMATCH = "KeyUsageMismatch"
    KEY_LENGTH_MISMATCH = "KeyLengthMismatch"
    ENHANCED_KEY_USAGE_MISSING = "EnhancedKeyUsageMissing"
    ENHANCED_KEY_USAGE_MISMATCH = "EnhancedKeyUsageMismatch"
    AAD_KEY_IDENTIFIER_LIST_MISSING = "AadKeyIdentifierListMissing"
    REGISTERED_KEY_MISMATCH = "RegisteredKeyMismatch"
    SIGNING_CERT_THUMBPRINT_MISMATCH = "SigningCertThumbprintMismatch"
    SCEP_PROFILE_NO_LONGER_TARGETED_TO_THE_CLIENT = "ScepProfileNoLongerTargetedToTheClient"
    SIGNATURE_VALIDATION_FAILED = "SignatureValidationFailed"
    BAD_CERTIFICATE_REQUEST_ID_IN_CHALLENGE = "BadCertificateRequestIdInChallenge"
    BAD_DEVICE_ID_IN_CHALLENGE = "BadDeviceIdInChallenge"
    BAD_USER_ID_IN_CHALLENGE = "BadUserIdInChallenge"


ADVICE: Final = {
    ResultCode.UNKNOWN: "Intune could not say why",
    ResultCode.SUCCESS: "the request is as Intune expects it",
    ResultCode.CERTIFICATE_REQUEST_DECODING_FAILED: "Intune can't read the PKCS #10",
    ResultCode.CHALLENGE_PASSWORD_MISSING: "the PKCS #10 has no challengePassword",
    ResultCode.CHALLENGE_DESERIALIZATION_ERROR: "the challenge is damaged, or not Intune's",
    ResultCode.CHALLENGE_DECRYPTION_ERROR: "the challenge is another tenant's, or damaged",
    ResultCode.CHALLENGE_DECODING_ERROR: "the challenge is damaged, or not Intune's",
    ResultCode.CHALLENGE_INVALID_TIMESTAMP: "the challenge has a time that can't be",
    ResultCode.CHALLENGE_EXPIRED: "older than an hour: the device has to sync to get another",
    ResultCode.SUBJECT_NAME_MISSING: "the profile demands a subject",
    ResultCode.SUBJECT_NAME_MISMATCH: "the subject is not the profile's; escaped characters?",
    ResultCode.SUBJECT_ALT_NAME_MISSING: "the profile demands alternative names",
    ResultCode.SUBJECT_ALT_NAME_MISMATCH: "the alternative names are not the profile's",
    ResultCode.KEY_USAGE_MISMATCH: "the key usage is not the profile's",
    ResultCode.KEY_LENGTH_MISMATCH: "the key's size is not the profile's",
    ResultCode.ENHANCED_KEY_USAGE_MISSING: "the profile demands an extended key usage",
    ResultCode.ENHANCED_KEY_USAGE_MISMATCH: "the extended key usage is not the profile's",
    ResultCode.AAD_KEY_IDENTIFIER_LIST_MISSING: "the device has no registered key",
    ResultCode.REGISTERED_KEY_MISMATCH: "not a key that is registered for the device",
    ResultCode.SIGNING_CERT_THUMBPRINT_MISMATCH: "signed under another certificate than expected",
    ResultCode.SCEP_PROFILE_NO_LONGER_TARGETED_TO_THE_CLIENT: "the profile was taken away",
    ResultCode.SIGNATURE_VALIDATION_FAILED: "the challenge's signature is wrong",
    ResultCode.BAD_CERTIFICATE_REQUEST_ID_IN_CHALLENGE: "the challenge is for another request",
    ResultCode.BAD_DEVICE_ID_IN_CHALLENGE: "the challenge is for another device",
    ResultCode.BAD_USER_ID_IN_CHALLENGE: "the challenge is for another user",
}
"""For the log; the device gets one badRequest whatever the code is."""


class RevocationError(IntEnum):
    """What is told to Intune of a revocation. From 4100 on, Intune asks again."""

    NONE = 0
    NON_RETRYABLE_SERVICE_EXCEPTION = 4000
    DATA_SERIALIZATION_ERROR = 4001
    PARAMETER_DATA_INVALID_ERROR = 4002
    CRYPTOGRAPHY_ERROR = 4003
    CERTIFICATE_NOT_FOUND_ERROR = 4004
    CONFLICT_ERROR = 4005
    """It is revoked already."""
    NOT_SUPPORTED_ERROR = 4006
    PAYLOAD_TOO_LARGE_ERROR = 4007
    RETRYABLE_SERVICE_EXCEPTION = 4100
    SERVICE_UNAVAILABLE_EXCEPTION = 4101
    SERVICE_TOO_BUSY_EXCEPTION = 4102
    AUTHENTICATION_EXCEPTION = 4103
