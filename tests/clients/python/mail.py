"""A mail server that prints each mail it takes as a line of JSON.

    mail.py CERT KEY MODE

MODE: `starttls` (STARTTLS and a login are required), `plain` (no STARTTLS is offered), `busy` (as
`starttls`, but the first mail is put off), `refusing` (as `starttls`, but no mail is taken). The first
line printed is the port. Ends with its standard input.
"""

import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


class Handler:
    def __init__(self, mode):
        self.mode = mode
        self.seen = 0

    async def handle_DATA(self, server, session, envelope):
        self.seen += 1
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        print(
            json.dumps(
                {
                    "tls": session.ssl is not None,
                    "user": getattr(session.auth_data, "login", b"").decode(),
                    "hello": session.host_name,
                    "from": envelope.mail_from,
                    "to": envelope.rcpt_tos,
                    "headers": {name.lower(): str(value) for name, value in mail.items()},
                    "parts": {
                        part.get_content_type(): part.get_content()
                        for part in mail.walk()
                        if not part.is_multipart()
                    },
                }
            ),
            flush=True,
        )
        if self.mode == "refusing":
            return "554 5.7.1 no such mail here"
        if self.mode == "busy" and self.seen == 1:
            return "451 4.3.2 come back later"
        return "250 OK"


def login(server, session, envelope, mechanism, auth):
    good = isinstance(auth, LoginPassword) and auth.login == b"tidewatch" and auth.password == b"hunter2"
    return AuthResult(success=good, handled=False, auth_data=auth)


async def main():
    cert, key, mode = sys.argv[1:4]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    handler = Handler(mode)

    def server():
        if mode == "plain":
            return SMTP(handler)
        return SMTP(
            handler,
            tls_context=context,
            require_starttls=True,
            authenticator=login,
            auth_required=True,
        )

    loop = asyncio.get_running_loop()
    listener = await loop.create_server(server, "127.0.0.1", 0)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
