"""What the status says of TLS at a common port: its certificates, and how handshakes went."""

from typing import Optional

from model import Tls
from status_report import BalancerTls, CertificateStatus
from tls_intake import TlsIntake


def tls_status(tls: Optional[Tls], intake: TlsIntake) -> Optional[BalancerTls]:
    """None without TLS."""
    if tls is None:
        return None
    return BalancerTls(
        min_version=tls.min_version,
        certificates=tuple(
            CertificateStatus(each.cert, each.names, each.not_after) for each in tls.pairs),
        handshakes=intake.handshakes,
        resumed=intake.resumed,
        failed=intake.failed,
        under_way=len(intake.waiting),
    )
