"""Services that judge a challenge: each is a ChallengeProvider for a CertificateAuthority.

``sealed``, ``policy_module`` and ``webhook`` need no extra package beyond the CA's; ``webhook``
and ``intune`` speak HTTP with httpx.
"""
