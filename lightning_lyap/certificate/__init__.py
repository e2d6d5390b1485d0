"""What an estimate must obey, checked on some of its steps."""

from lightning_lyap.certificate.result import Certificate, Check

__all__ = ["Certificate", "Check"]
