"""git http-backend behind TLS on loopback: argv are root, certificate, key, log; prints its port.

Paths: /REPO is public; /private/REPO wants the password in the environment variable PASSWORD; /moved/URL-encoded-target
redirects there; /busy answers 429. Every request becomes a line of JSON in the log, with what a look through the
arguments of all processes found of the password while the request was open.
"""
import base64, glob, http.server, json, os, ssl, subprocess, sys, threading, urllib.parse

root, certificate, key, log = sys.argv[1:5]
password = os.environ.get("PASSWORD", "")
lock = threading.Lock()


def seen_in_arguments():
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            line = open(path, "rb").read()
        except OSError:
            continue
        if password and password.encode() in line:
            found.append(line.decode(errors="replace").split("\0")[0])
    return found


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def plain(self, code, headers=()):
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def serve(self):
        body = b""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        authorization = self.headers.get("Authorization")
        entry = {"path": self.path, "authorization": authorization, "arguments": seen_in_arguments()}
        with lock, open(log, "a") as file:
            file.write(json.dumps(entry) + "\n")
        path, _, query = self.path.partition("?")
        if path.startswith("/busy/"):
            return self.plain(429)
        if path.startswith("/moved/"):
            target, _, rest = path[len("/moved/"):].partition("/")
            return self.plain(302, [("Location", f"{urllib.parse.unquote(target)}/{rest}?{query}")])
        if path.startswith("/private/"):
            path = path[len("/private"):]
            given = base64.b64decode((authorization or "Basic ").split(" ", 1)[1]).decode().partition(":")[2]
            if given != password:
                return self.plain(401, [("WWW-Authenticate", 'Basic realm="git"')])
        environment = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": root, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
            "QUERY_STRING": query, "REQUEST_METHOD": self.command, "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "REMOTE_USER": "tester", "REMOTE_ADDR": "127.0.0.1",
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "GIT_CONFIG_NOSYSTEM": "1", "HOME": root,
            "GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
            "GIT_CONFIG_KEY_1": "http.receivepack", "GIT_CONFIG_VALUE_1": "true",
        }
        output = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True).stdout
        head, _, content = output.partition(b"\r\n\r\n")
        headers = [line.split(": ", 1) for line in head.decode().split("\r\n") if line]
        status = next((int(value.split()[0]) for name, value in headers if name == "Status"), 200)
        self.send_response(status)
        for name, value in headers:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = serve


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_address[1], flush=True)
# Ends with its parent: standard input closes.
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
server.serve_forever()
