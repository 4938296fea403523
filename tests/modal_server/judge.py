"""Judges a server that speaks Modal's API with Modal's own client.

Each check is a function; its verdict is one line of JSON on standard output. What a client cannot do, such as cutting a
connection, it asks its caller for, with another line that is answered on standard input.
"""

import hashlib
import io
import json
import os
import socket
import sys
import tempfile
import traceback
import unittest
import uuid

import modal
from modal._utils.async_utils import synchronizer
from modal.exception import (
    AlreadyExistsError,
    AuthError,
    ConflictError,
    ImageBuildError,
    InvalidError,
    NotFoundError,
    PermissionDeniedError,
    SandboxFilesystemDirectoryNotEmptyError,
    SandboxFilesystemIsADirectoryError,
    SandboxFilesystemNotFoundError,
    SandboxFilesystemPathAlreadyExistsError,
    SandboxTerminatedError,
    SandboxTimeoutError,
    TimeoutError,
)
from modal_proto import api_pb2

APP = modal.App.lookup("judge", create_if_missing=True)
IMAGE = modal.Image.from_registry("debian:bookworm-slim")
CHECKS = []
IDLE_TIMEOUT = api_pb2.GenericResult.GENERIC_STATUS_IDLE_TIMEOUT
raises = unittest.TestCase().assertRaises


def check(function):
    CHECKS.append(function)
    return function


def say(line):
    print(json.dumps(line), flush=True)


def ask(do, **what):
    say({"do": do, **what})
    return json.loads(sys.stdin.readline())


def sandbox(*command, **options):
    return modal.Sandbox.create(*command, app=APP, image=IMAGE, **options)


@check
def a_command_has_streams_and_a_code():
    sb = sandbox()
    process = sb.exec("sh", "-c", "echo out; echo err >&2; exit 7")
    assert process.wait() == 7
    assert (process.stdout.read(), process.stderr.read()) == ("out\n", "err\n")
    killed = sb.exec("sh", "-c", "kill -15 $$")
    assert killed.wait() == 128 + 15
    assert sb.terminate(wait=True) == 137


@check
def input_is_written_in_pieces_and_ends():
    sb = sandbox()
    process = sb.exec("cat")
    for piece in ["hello ", "wor"]:
        process.stdin.write(piece)
        process.stdin.drain()
    assert process.poll() is None
    process.stdin.write("ld")
    process.stdin.write_eof()
    process.stdin.drain()
    assert process.wait() == process.poll() == 0
    assert process.stdout.read() == "hello world"
    sb.terminate()


@check
def input_is_written_as_a_stream():
    sb = sandbox()
    process = sb.exec("sha256sum")
    data = bytes(range(256)) * 10_000
    assert process._stdin_write_stream(io.BytesIO(data)) == len(data)
    assert process.stdout.read().split()[0] == hashlib.sha256(data).hexdigest()
    sb.terminate()


@check
def input_whose_answer_was_lost_is_read_once():
    sb = sandbox()
    process = sb.exec("cat")
    ask("lose_reply", rpc="TaskExecStdinWrite", times=2)
    process.stdin.write("once ")
    process.stdin.drain()
    process.stdin.write("and again")
    process.stdin.write_eof()
    process.stdin.drain()
    assert process.stdout.read() == "once and again"
    process = sb.exec("sha256sum")
    data = bytes(range(256)) * 10_000
    ask("lose_reply", rpc="TaskExecStdinWriteStream")
    assert process._stdin_write_stream(io.BytesIO(data)) == len(data)
    assert process.stdout.read().split()[0] == hashlib.sha256(data).hexdigest()
    sb.terminate()


@check
def megabytes_of_output_arrive_whole():
    sb = sandbox()
    process = sb.exec("sh", "-c", "yes 0123456789 | head -c 5000000", text=False)
    data = process.stdout.read()
    assert len(data) == 5_000_000 and data.startswith(b"0123456789\n0123")
    sb.terminate()


@check
def an_entrypoint_talks_and_its_end_is_the_sandboxes():
    sb = sandbox("sh", "-c", "read line; echo got $line; echo err >&2; exit 3")
    assert sb.poll() is None
    sb.stdin.write("this\n")
    sb.stdin.drain()
    sb.wait()
    assert (sb.returncode, sb.poll()) == (3, 3)
    assert (sb.stdout.read(), sb.stderr.read()) == ("got this\n", "err\n")


@check
def variables_come_from_image_secrets_and_command():
    image = IMAGE.env({"A": "image", "B": "image", "QUOTED": "two $words 'here'"})
    secrets = [modal.Secret.from_name("github", required_keys=["GITHUB_TOKEN"]), modal.Secret.from_dict({"B": "dict"})]
    sb = modal.Sandbox.create(app=APP, image=image, secrets=secrets, env={"C": "env", "D": "env"})
    process = sb.exec("sh", "-c", 'echo "$A,$B,$C,$D,$E,$GITHUB_TOKEN,$QUOTED"', env={"D": "exec"},
                      secrets=[modal.Secret.from_dict({"E": "secret"})])
    assert process.stdout.read() == "image,dict,env,exec,secret,t0ps3cret,two $words 'here'\n"
    assert sb.exec("sh", "-c", "echo $E").stdout.read() == "\n"
    sb.terminate()
    with raises(NotFoundError):
        sandbox(secrets=[modal.Secret.from_name("nobody")])
    with raises(NotFoundError):
        sandbox(secrets=[modal.Secret.from_name("github", required_keys=["OTHER"])])


@check
def a_command_has_a_secret_by_its_name_and_the_next_has_not():
    sb = sandbox()
    say = ("sh", "-c", "echo ${GITHUB_TOKEN-none}")
    assert sb.exec(*say, secrets=[modal.Secret.from_name("github")]).stdout.read() == "t0ps3cret\n"
    assert sb.exec(*say).stdout.read() == "none\n"
    sb.terminate()


@check
def a_sandbox_has_the_resources_that_it_is_given():
    sb = sandbox(cpu=(1.0, 1.0), memory=(512, 512))
    assert sb.exec("true").wait() == 0
    sb.terminate()


@check
def a_command_ends_at_its_time_out():
    sb = sandbox()
    process = sb.exec("sh", "-c", "echo begun; sleep 1000", timeout=1)
    assert process.stdout.read() == "begun\n"
    assert process.wait() in (-1, 137)
    gone = "while cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -q 'sleep 100[0]'; do :; done"
    assert sb.exec("sh", "-c", gone, timeout=20).wait() == 0
    sb.terminate()


@check
def a_sandbox_ends_at_its_time_out():
    sb = sandbox("sleep", "1000", timeout=1)
    with raises(SandboxTimeoutError):
        sb.wait()
    assert sb.returncode == 124


@check
def a_sandbox_in_which_nothing_happens_ends():
    sb = sandbox(idle_timeout=1)
    assert sb.exec("sleep", "1.2").wait() == 0
    sb.wait()
    result = synchronizer._translate_in(sb)._impl.result
    assert result.status == IDLE_TIMEOUT, result


@check
def nothing_runs_in_a_sandbox_that_has_ended():
    sb = sandbox()
    process = sb.exec("sleep", "1000")
    sb.terminate(wait=True)
    sb.terminate()
    with raises(NotFoundError):
        process.wait()
    with raises((NotFoundError, ConflictError)):
        sb.exec("true")
    with raises((NotFoundError, ConflictError)):
        modal.Sandbox.from_id(sb.object_id).exec("true")


@check
def a_name_is_that_of_one_sandbox():
    sb = sandbox(name="one")
    assert modal.Sandbox.from_name("judge", "one").object_id == sb.object_id
    with raises(AlreadyExistsError):
        sandbox(name="one")
    sb.terminate(wait=True)
    with raises(NotFoundError):
        modal.Sandbox.from_name("judge", "one")
    assert modal.Sandbox.from_name("judge", "one", include_terminated=True).object_id == sb.object_id
    other = sandbox(name="one")
    assert other.object_id != sb.object_id
    other.terminate()


@check
def sandboxes_are_listed_by_tags_over_pages():
    made = [sandbox(tags={"kind": "listed", "number": str(number)}) for number in range(3)]
    listed = lambda tags: [sb.object_id for sb in modal.Sandbox.list(app_id=APP.app_id, tags=tags)]
    assert listed({"kind": "listed"}) == [sb.object_id for sb in reversed(made)]
    assert listed({"kind": "listed", "number": "1"}) == [made[1].object_id]
    made[1].set_tags({"kind": "other"})
    assert made[1].get_tags() == {"kind": "other"}
    assert listed({"kind": "listed"}) == [made[2].object_id, made[0].object_id]
    made[2].terminate(wait=True)
    assert listed({"kind": "listed"}) == [made[0].object_id]
    for sb in made:
        sb.terminate()


@check
def a_sandbox_is_found_again_by_its_id():
    sb = sandbox()
    again = modal.Sandbox.from_id(sb.object_id)
    assert again.exec("echo", "here").stdout.read() == "here\n"
    again.terminate(wait=True)
    assert sb.poll() == 137
    with raises(NotFoundError):
        modal.Sandbox.from_id("sb-nothing")


@check
def files_of_a_sandbox_are_read_and_written():
    sb = sandbox()
    files = sb.filesystem
    files.write_text("one\n", "/project/deep/it's one")
    assert files.read_text("/project/deep/it's one") == "one\n"
    assert sb.exec("cat", "/project/deep/it's one").stdout.read() == "one\n"
    data = bytes(range(256)) * 5000
    files.write_bytes(data, "/project/data")
    assert files.read_bytes("/project/data") == data
    files.make_directory("/project/new/one")
    with raises(SandboxFilesystemPathAlreadyExistsError):
        files.make_directory("/project/new", create_parents=False)
    with raises(SandboxFilesystemDirectoryNotEmptyError):
        files.remove("/project/new")
    files.remove("/project/new", recursive=True)
    with raises(SandboxFilesystemIsADirectoryError):
        files.read_text("/project")
    with raises(SandboxFilesystemNotFoundError):
        files.read_text("/project/new")
    sb.terminate()


@check
def a_snapshot_is_an_image():
    sb = sandbox("sleep", "1000")
    sb.exec("sh", "-c", "mkdir /project; echo first > /project/file").wait()
    image = sb.snapshot_filesystem(ttl=3600)
    sb.exec("sh", "-c", "echo second > /project/file").wait()
    assert sb.exec("cat", "/project/file").stdout.read() == "second\n"
    again = modal.Sandbox.create(app=APP, image=image)
    assert again.exec("cat", "/project/file").stdout.read() == "first\n"
    by_id = modal.Sandbox.create(app=APP, image=modal.Image.from_id(image.object_id))
    assert by_id.exec("cat", "/project/file").stdout.read() == "first\n"
    for each in (sb, again, by_id):
        each.terminate()


@check
def a_snapshot_is_kept_for_its_time():
    sb = sandbox()
    image = sb.snapshot_filesystem(ttl=1)
    kept = sb.snapshot_filesystem(ttl=None)
    with raises(NotFoundError):
        for _ in range(10_000):
            modal.Image.from_id(image.object_id).build(APP)
    modal.Image.from_id(kept.object_id).build(APP)
    sb.terminate()


@check
def an_image_is_built_by_commands_once():
    marker = str(uuid.uuid4())
    image = IMAGE.run_commands(f"echo {marker} > /opt/made", "echo $PWD >> /opt/made").env({"A": "1"})
    image = image.workdir("/srv/app").run_commands("echo $A $PWD > made")
    sb = modal.Sandbox.create(app=APP, image=image)
    assert "echo $A $PWD > made" in "".join(image._logs())
    assert sb.exec("cat", "/opt/made", "made").stdout.read() == f"{marker}\n/\n1 /srv/app\n"
    sb.terminate()
    joins = lambda: len(ask("calls", rpc="ImageJoinStreaming"))
    before = joins()
    IMAGE.run_commands(f"echo {marker} > /opt/made", "echo $PWD >> /opt/made").build(APP)
    assert joins() == before
    once = IMAGE.run_commands("cat /proc/sys/kernel/random/uuid > /opt/random")
    first, second = [
        modal.Sandbox.create(app=APP, image=each).exec("cat", "/opt/random").stdout.read()
        for each in (once, IMAGE.run_commands("cat /proc/sys/kernel/random/uuid > /opt/random", force_build=True))
    ]
    assert first != second


@check
def a_build_says_which_command_failed():
    image = IMAGE.run_commands("true", "echo on the way", "echo what is wrong; exit 3", "touch /opt/never")
    with raises(ImageBuildError) as caught:
        image.build(APP)
    text = str(caught.exception)
    assert "code 3" in text and "what is wrong" in text, text
    with raises(ImageBuildError):
        modal.Image.from_registry("nobody/nothing:1").build(APP)


@check
def a_build_has_secrets_that_the_image_has_not():
    secret = modal.Secret.from_dict({"KEY": "k3y"})
    image = IMAGE.run_commands("printf %s $KEY | sha256sum > /opt/hash", secrets=[secret])
    sb = modal.Sandbox.create(app=APP, image=image)
    assert sb.exec("sh", "-c", "cat /opt/hash; echo [$KEY]").stdout.read() == (
        f"{hashlib.sha256(b'k3y').hexdigest()}  -\n[]\n"
    )
    sb.terminate()


@check
def files_of_the_client_are_copied_into_an_image():
    # A program that does what is needed of pip: shows that the file is there.
    fake = "#!/bin/sh\\nfor last; do :; done\\ncat /.requirements.txt > /opt/seen"
    image = IMAGE.run_commands("mkdir /opt/bin", f"printf '{fake}' > /opt/bin/python", "chmod +x /opt/bin/python")
    image = image.env({"PATH": "/opt/bin:/usr/bin:/bin"})
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("nothing==1.0\n")
        file.flush()
        sb = modal.Sandbox.create(app=APP, image=image.pip_install_from_requirements(file.name))
        assert sb.exec("cat", "/opt/seen").stdout.read() == "nothing==1.0\n"
        sb.terminate()


def volume(name, **options):
    return modal.Volume.from_name(name, create_if_missing=True, version=2, **options).hydrate()


@check
def files_are_put_into_volumes_and_read_back():
    vol = volume("files")
    large = bytes(range(256)) * 40_000 + bytes(3_000_000)
    with vol.batch_upload() as batch:
        batch.put_file(io.BytesIO(b"small"), "/docs/small.txt")
        batch.put_file(io.BytesIO(large), "large.bin", mode=0o600)
        batch.put_file(io.BytesIO(b""), "docs/deep/empty")
    assert b"".join(vol.read_file("large.bin")) == large
    assert b"".join(vol.read_file("/docs/small.txt")) == b"small"
    assert b"".join(vol.read_file("docs/deep/empty")) == b""
    paths = lambda *args, **options: sorted(entry.path for entry in vol.listdir(*args, **options))
    assert paths("/") == ["docs", "large.bin"]
    assert paths("/", recursive=True) == ["docs", "docs/deep", "docs/deep/empty", "docs/small.txt", "large.bin"]
    assert paths("docs") == ["docs/deep", "docs/small.txt"]
    sizes = {entry.path: entry.size for entry in vol.listdir("/")}
    assert sizes["large.bin"] == len(large)
    with raises(FileExistsError):
        with vol.batch_upload() as batch:
            batch.put_file(io.BytesIO(b"other"), "docs/small.txt")
    with vol.batch_upload(force=True) as batch:
        batch.put_file(io.BytesIO(b"other"), "docs/small.txt")
    assert b"".join(vol.read_file("docs/small.txt")) == b"other"
    vol.remove_file("docs", recursive=True)
    assert paths("/") == ["large.bin"]
    for missing in (lambda: b"".join(vol.read_file("docs/small.txt")), lambda: vol.remove_file("nothing")):
        with raises(FileNotFoundError):
            missing()


@check
def what_a_sandbox_writes_reaches_the_volume_when_it_syncs_or_ends():
    vol = volume("synced")
    with vol.batch_upload() as batch:
        batch.put_file(io.BytesIO(b"#!/bin/sh\necho it runs\n"), "run.sh", mode=0o755)
        batch.put_file(io.BytesIO(b"old"), "old")
    sb = sandbox(volumes={"/data": vol})
    assert sb.exec("/data/run.sh").stdout.read() == "it runs\n"
    read = lambda path: b"".join(vol.read_file(path))
    assert sb.exec("sh", "-c", "echo one > /data/one; rm /data/old; mkdir /data/sub; echo two > /data/sub/two").wait() == 0
    with raises(FileNotFoundError):
        read("one")
    assert read("old") == b"old"
    assert sb.exec("sync", "/data").wait() == 0
    assert (read("one"), read("sub/two")) == (b"one\n", b"two\n")
    with raises(FileNotFoundError):
        read("old")
    assert sb.exec("sh", "-c", "echo three > /data/three && sync /data").wait() == 0
    assert read("three") == b"three\n"

    other = sandbox(volumes={"/mnt": vol})
    assert other.exec("cat", "/mnt/sub/two").stdout.read() == "two\n"
    assert sb.exec("sh", "-c", "echo changed > /data/one; sync").wait() == 0
    assert other.exec("cat", "/mnt/one").stdout.read() == "one\n"
    other.reload_volumes()
    assert other.exec("cat", "/mnt/one").stdout.read() == "changed\n"
    other.terminate()

    sb.exec("sh", "-c", "echo last > /data/last; ln -s /etc /data/link").wait()
    sb.terminate(wait=True)
    assert read("last") == b"last\n"
    for path in ("link", "link/passwd"):
        with raises(PermissionDeniedError):
            read(path)


@check
def a_part_of_a_volume_is_mounted_and_cannot_be_written():
    vol = volume("parts")
    with vol.batch_upload() as batch:
        batch.put_file(io.BytesIO(b"one"), "docs/one")
        batch.put_file(io.BytesIO(b"two"), "two")
    sb = sandbox(volumes={"/docs": vol.with_mount_options(sub_path="docs")})
    assert sb.exec("sh", "-c", "ls /docs; echo more > /docs/more; sync /docs").stdout.read() == "one\n"
    sb.terminate(wait=True)
    assert b"".join(vol.read_file("docs/more")) == b"more\n"
    sb = sandbox(volumes={"/all": vol.with_mount_options(read_only=True)})
    process = sb.exec("sh", "-c", "cat /all/two; echo three > /all/three")
    assert process.stdout.read() == "two" and process.wait() != 0
    assert "Read-only file system" in process.stderr.read()
    sb.terminate()


@check
def a_volume_has_one_version():
    vol = modal.Volume.from_name("first-generation", create_if_missing=True, version=1).hydrate()
    assert vol.object_id.startswith("vo-")
    with raises(InvalidError):
        modal.Volume.from_name("first-generation", version=2).hydrate()
    with raises(NotFoundError):
        modal.Volume.from_name("nobodys").hydrate()


REACH = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2); print('reached')"


@check
def a_volume_that_is_deleted_is_gone():
    modal.Volume.from_name("gone", create_if_missing=True, version=2).hydrate()
    modal.Volume.objects.delete("gone")
    with raises(NotFoundError):
        modal.Volume.from_name("gone").hydrate()


@check
def a_blocked_network_is_blocked():
    address = os.environ["MODAL_SERVER_URL"].removeprefix("http://").split(":")
    reached = []
    for options in ({}, {"block_network": True}, {"outbound_domain_allowlist": ["example.com"]}):
        sb = sandbox(**options)
        reached.append(sb.exec("python3", "-c", REACH, *address).stdout.read())
        sb.terminate()
    assert reached == ["reached\n", "", ""], reached


@check
def an_allow_list_is_changed_while_the_sandbox_lives():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        sb = sandbox(outbound_domain_allowlist=["example.com"])
        fetch = (
            "import socket, os; s = socket.create_connection(('127.0.0.1', int(os.environ['http_proxy'].split(':')[-1].strip('/'))));"
            f"s.send(b'CONNECT localhost:{port} HTTP/1.1\\r\\nHost: localhost:{port}\\r\\n\\r\\n'); print(s.recv(99).split()[1])"
        )
        assert sb.exec("python3", "-c", fetch).stdout.read() == "b'403'\n"
        sb._experimental_set_outbound_network_policy(outbound_domain_allowlist=[f"localhost:{port}"])
        assert sb.exec("python3", "-c", fetch).stdout.read() == "b'200'\n"
        sb.terminate()


@check
def addresses_are_allowed_one_by_one():
    sb = sandbox(outbound_cidr_allowlist=["192.0.2.7/32"])
    fetch = (
        "import socket, os; s = socket.create_connection(('127.0.0.1', int(os.environ['http_proxy'].split(':')[-1].strip('/'))));"
        "s.send(b'CONNECT 127.0.0.1:80 HTTP/1.1\\r\\nHost: 127.0.0.1:80\\r\\n\\r\\n'); print(s.recv(99).split()[1])"
    )
    assert sb.exec("python3", "-c", fetch).stdout.read() == "b'403'\n"
    sb._experimental_set_outbound_network_policy(outbound_cidr_allowlist=["127.0.0.1/32"])
    assert sb.exec("python3", "-c", fetch).stdout.read() != "b'403'\n"
    sb.terminate()


@check
def a_sandbox_is_ready_when_its_probe_says_so():
    sb = sandbox(readiness_probe=modal.Probe.with_exec("test", "-e", "/root/ready", interval_ms=10))
    with raises(TimeoutError):
        sb.wait_until_ready(timeout=1)
    sb.exec("touch", "/root/ready").wait()
    sb.wait_until_ready(timeout=20)
    sb.terminate()


@check
def a_port_is_reached_through_its_tunnel():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sb = sandbox(unencrypted_ports=[port])
    server = f"import socket; s = socket.create_server(('', {port})); print('up', flush=True); s.accept()[0].send(b'hi')"
    process = sb.exec("python3", "-c", server, bufsize=1)
    assert next(iter(process.stdout)) == "up\n"
    with socket.create_connection(sb.tunnels()[port].tcp_socket) as connection:
        assert connection.recv(2) == b"hi"
    sb.terminate()


@check
def wrong_credentials_are_refused():
    for token in (("ak-test", "as-wrong"), ("ak-nobody", "as-test")):
        with raises(AuthError):
            modal.App.lookup("judge", client=modal.Client.from_credentials(*token))
    with raises(NotFoundError):
        modal.App.lookup("nobodys")


@check
def credentials_are_not_recorded():
    call = ask("calls", rpc="SandboxCreateV2")[-1]
    assert call["metadata"]["x-modal-token-id"] == "ak-test"
    assert call["metadata"]["x-modal-token-secret"] == call["metadata"]["x-modal-auth-token"] == "***"
    assert call["messages"][0]["app_id"] == APP.app_id
    read = ask("calls", rpc="TaskExecStdioRead")[-1]
    assert read["metadata"]["authorization"] == "***"


@check
def a_sandbox_whose_answer_was_lost_is_made_once():
    ask("lose_reply", rpc="SandboxCreateV2", times=2)
    sb = sandbox(tags={"kind": "lost"})
    assert [each.object_id for each in modal.Sandbox.list(app_id=APP.app_id, tags={"kind": "lost"})] == [sb.object_id]
    ask("lose_reply", rpc="TaskExecStart")
    assert sb.exec("sh", "-c", "echo x >> /root/log").wait() == 0
    assert sb.exec("cat", "/root/log").stdout.read() == "x\n"
    sb.terminate()


@check
def output_goes_on_after_a_broken_connection():
    sb = sandbox()
    ask("cut_output", bytes=5)
    process = sb.exec("sh", "-c", "echo 0123456789; read line; echo $line")
    process.stdin.write("more\n")
    process.stdin.drain()
    assert process.stdout.read() == "0123456789\nmore\n"
    offsets = [int(call["messages"][0].get("offset", 0)) for call in ask("calls", rpc="TaskExecStdioRead")[-2:]]
    assert offsets == [0, 5], offsets
    sb.terminate()


@check
def calls_are_made_again_after_throttling_and_cuts():
    ask("throttle", rpc="SandboxCreateV2", times=3)
    ask("cut", rpc="SandboxWaitV2")
    before = len(ask("calls", rpc="SandboxCreateV2"))
    sb = sandbox()
    assert len(ask("calls", rpc="SandboxCreateV2")) == before + 4
    assert sb.poll() is None
    sb.terminate()


@check
def an_expired_router_token_is_replaced():
    sb = sandbox()
    assert sb.exec("true").wait() == 0
    before = len(ask("calls", rpc="SandboxGetCommandRouterAccess"))
    ask("expire")
    assert sb.exec("echo", "again").stdout.read() == "again\n"
    assert len(ask("calls", rpc="SandboxGetCommandRouterAccess")) == before + 1
    sb.terminate()


@check
def a_client_that_is_too_old_is_told():
    ask("refuse_version")
    try:
        with raises(modal.exception.Error) as caught:
            modal.App.lookup("judge")
        assert "too old" in str(caught.exception)
    finally:
        ask("clear")


@check
def a_killed_sandbox_takes_its_commands_with_it():
    sb = sandbox()
    process = sb.exec("sleep", "1000")
    assert ask("kill", sandbox=sb.object_id)
    with raises(NotFoundError):
        process.stdout.read()
    with raises(NotFoundError):
        process.wait()
    with raises(SandboxTerminatedError):
        sb.wait()


def main():
    for function in CHECKS:
        try:
            function()
            failed = None
        except BaseException:
            failed = traceback.format_exc()
        say({"check": function.__name__, "failed": failed})


main()
