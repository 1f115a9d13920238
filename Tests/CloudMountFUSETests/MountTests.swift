import CloudMountFilesystem
import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization
import Testing

@testable import CloudMountFUSE

@Suite("Mounting and unmounting")
struct MountTests {
    @Test("An unmount from outside ends the threads")
    func outside() async throws {
        try await TestMount.use { mount in
            #expect(!mount.isGone)
            let outcome = try await Child.shell("umount \(mount.path) || fusermount3 -u \(mount.path)")
            #expect(outcome.status == 0)
            await mount.mount.waitUntilClosed()
            #expect(mount.isGone)
            try mount.mount.unmount(lazy: false)
        }
    }

    @Test("A thread that is stuck in a request is seen from outside, and one that has answered is not busy")
    func pulse() async throws {
        try await TestMount.use { mount in
            _ = try await Child.shell("stat \(mount.path)/absent")
            let before = mount.mount.pulse
            #expect(!before.isBusy && before.moves > 0)
            async let child = Child.shell("stat \(mount.path)/stuck")
            while mount.mount.pulse.moves != before.moves + 1 { try await Task.sleep(for: .milliseconds(1)) }
            #expect(mount.mount.pulse == ServingPulse(isBusy: true, moves: before.moves + 1))
            mount.files.stuck.signal()
            _ = try await child
            while mount.mount.pulse.isBusy { try await Task.sleep(for: .milliseconds(1)) }
            #expect(mount.mount.pulse.moves > before.moves + 1)
        }
    }

    @Test("Asynchronous O_DIRECT is not agreed to: buffered readers would keep the bytes from before")
    func agreed() async throws {
        try await TestMount.use { mount in
            // FUSE_ASYNC_DIO, FUSE_ASYNC_READ and FUSE_PARALLEL_DIROPS of linux/fuse.h.
            let agreed = mount.mount.session.agreed
            #expect(agreed & (1 << 15) == 0)
            #expect(agreed & (1 << 0) != 0)
            #expect(agreed & (1 << 18) != 0)
        }
    }

    @Test("Other mounts that use one are told: inside it, beside it, and in a container")
    func uses() async throws {
        try requireRoot()
        let files = FakeFileSystem()
        try files.make("d", kind: .directory, permissions: 0o755)
        let other = try TestMount.directory()
        try await TestMount.use(files) { mount in
            #expect(mount.mount.mountsInside == [])
            let bound = try await Child.shell(
                "mount --bind \(other) \(mount.path)/d && mount --bind \(mount.path) \(other)")
            #expect(bound.status == 0, "\(bound.output)")
            #expect(mount.mount.mountsInside == [mount.path + "/d"])
            #expect(mount.mount.otherPlaces.contains(other))
            // Other tests have containers too.
            let container = try Child.start(["unshare", "-m", "--propagation", "private", "sleep", "600"])
            let name = "process \(container.process) ("
            try await eventually { mount.mount.otherPlaces.contains { $0.hasPrefix(name) } }
            kill(container.process, SIGKILL)
            _ = try await Child.pool.run { () throws(Child.Failure) in try Child.wait(container) }
            _ = try await Child.shell("umount \(other); umount \(mount.path)/d")
            #expect(mount.mount.mountsInside == [])
            #expect(!mount.mount.otherPlaces.contains { $0 == other || $0.hasPrefix(name) })
        }
    }

    @Test("A mount is made read-only and writable again, and tells where its daemon listens")
    func remount() async throws {
        try requireRoot()
        try await TestMount.use(options: { $0.control = "/run/there.sock" }) { mount in
            let path = mount.path
            func remount(_ options: [String], readOnly: Bool) async -> VFSError.Code? {
                await Child.pool.run { () -> VFSError.Code? in
                    do throws(VFSError) {
                        try FUSEMount.remount(path, options: options, readOnly: readOnly)
                        return nil
                    } catch { return error.code }
                }
            }
            #expect(await Child.pool.run { FUSEMount.controlSocket(of: path) } == "/run/there.sock")
            #expect(FUSEMount.owner(of: path) == geteuid())
            #expect(try await output(of: "getfattr -d -m - .", in: mount) == "")
            #expect(await remount(["ro", "noexec"], readOnly: true) == nil)
            let text = try await output(of: "touch file 2>&1; grep \(path) /proc/mounts", in: mount)
            #expect(text.contains("Read-only file system"))
            #expect(text.contains(" fuse.cloudmount ro,nosuid,nodev,noexec,"))
            #expect(await remount(["rw"], readOnly: false) == nil)
            #expect(
                try await output(of: "touch file; grep -c 'cloudmount rw,nosuid,nodev,noexec' /proc/mounts", in: mount)
                    == "1")
            let busy = try await output(of: "exec 5> file; sleep 600 > /dev/null 2>&1 & echo $!", in: mount)
            #expect(await remount([], readOnly: true) == .busy)
            kill(Int32(busy) ?? 0, SIGKILL)
            #expect(await Child.pool.run { FUSEMount.controlSocket(of: "/tmp") } == nil)
            #expect(
                await Child.pool.run { () -> VFSError.Code? in
                    do throws(VFSError) {
                        try FUSEMount.remount("/tmp", options: [], readOnly: true)
                        return nil
                    } catch { return error.code }
                } == .notFound)
        }
    }

    @Test("A mount in use is busy; detached, it is served until it is closed")
    func busyAndLazy() async throws {
        let files = FakeFileSystem()
        try files.make("file", bytes: Array("abc".utf8))
        try await TestMount.use(files) { mount in
            let path = mount.path
            let go = path + "-go"
            let user = try Child.start([
                "/bin/sh", "-c",
                """
                exec < \(path)/file; echo open; n=0
                while [ ! -e \(go) ] && [ $n -lt 1500 ]; do sleep 0.02; n=$((n + 1)); done; rm \(go); cat
                """,
            ])
            try await eventually { files.openHandles == 1 }
            let error = await Child.pool.run { () -> VFSError? in
                do throws(VFSError) {
                    try mount.mount.unmount(lazy: false)
                    return nil
                } catch { return error }
            }
            #expect(error?.code == .busy)
            try await Child.pool.run { () throws(VFSError) in try mount.mount.unmount(lazy: true) }
            #expect(mount.isGone)
            #expect(files.count("read") == 0)
            _ = try await Child.shell("touch \(go)")
            let outcome = try await Child.pool.run { () throws(Child.Failure) in try Child.wait(user) }
            #expect(outcome.output == "open\nabc")
            await mount.mount.waitUntilClosed()
        }
    }

    @Test("A place that is mounted, absent or no directory is refused")
    func refusals() async throws {
        try await TestMount.use { mount in
            let path = mount.path
            func code(_ path: String) async -> VFSError.Code? {
                await Child.pool.run { () -> VFSError.Code? in
                    do throws(VFSError) {
                        _ = try FUSEMount(
                            path: path, options: FUSEMountOptions(source: "x"), operations: FakeFileSystem())
                        return nil
                    } catch { return error.code }
                }
            }
            #expect(await code(path) == .busy)
            #expect(await code(path + "/../" + path.split(separator: "/")[1]) == .busy)
            #expect(await code(path + "-absent") == .notFound)
            #expect(await code("/dev/null") == .notDirectory)
            let listed = try await output(of: "ls", in: mount)
            #expect(listed == "")
        }
    }

    @Test("What is mounted over a mount is not unmounted in its place")
    func covered() async throws {
        try requireRoot()
        try await TestMount.use { mount in
            let path = mount.path
            _ = try await Child.shell("mount -t tmpfs cover \(path)")
            let error = await Child.pool.run { () -> VFSError? in
                do throws(VFSError) {
                    try mount.mount.unmount(lazy: true)
                    return nil
                } catch { return error }
            }
            #expect(error?.code == .busy)
            #expect(MountTable.top(at: path)?.type == "tmpfs")
            _ = try await Child.shell("umount \(path)")
        }
    }

    @Test(
        "An answer that comes after the end is undone and does no harm, nor does a notice",
        arguments: ["read", "open", "lookup"])
    func late(operation: String) async throws {
        let files = FakeFileSystem()
        let inode = try files.make("held \(operation)", bytes: [1])
        weak var session: Session?
        try await TestMount.use(files) { mount in
            session = mount.mount.session
            let path = mount.path
            let user = try Child.start(["cat", path + "/held \(operation)"])
            try await eventually { files.held.withLock { $0.count } == 1 }
            kill(user.process, SIGKILL)
            // Aborts the connection with the request unanswered.
            _ = try await Child.shell("umount -f \(path); umount -l \(path) || fusermount3 -uz \(path); true")
            await mount.mount.waitUntilClosed()
            _ = try await Child.pool.run { () throws(Child.Failure) in try Child.wait(user) }
            mount.mount.notifier.invalidateInode(inode, extent: nil)
        }
        #expect(session != nil)
        files.forgetCounts()
        files.answerHeld()
        #expect(files.count("release") == (operation == "open" ? 1 : 0))
        #expect(files.count("forget") == (operation == "lookup" ? 1 : 0))
        try await eventually { session == nil }
    }

    @Test("A mount left by a daemon that was killed is recognised, cleared and mounted anew")
    func dead() async throws {
        try requireRoot()
        let path = try TestMount.directory()
        defer { rmdir(path) }
        #expect(try await Child.pool.run { () throws(VFSError) in try FUSEMount.clearDeadMount(at: path) } == false)
        let absent = "/absent-directory/\(getpid())/x"
        #expect(try await Child.pool.run { () throws(VFSError) in try FUSEMount.clearDeadMount(at: absent) } == false)
        let daemon = try Child.start(["python3", "-c", Self.daemon, path])
        let started = await Child.pool.run { () -> Int in
            var byte: UInt8 = 0
            return read(daemon.output, &byte, 1)
        }
        #expect(started == 1)
        // Attributes that the kernel keeps for an hour: stat alone would not find it dead.
        #expect(try await Child.shell("stat \(path)").status == 0)
        kill(daemon.process, SIGKILL)
        _ = try Child.wait(daemon)
        #expect(MountTable.top(at: path)?.type == "fuse.cloudmount")
        #expect(try await Child.pool.run { () throws(VFSError) in try FUSEMount.clearDeadMount(at: path) })
        #expect(MountTable.top(at: path) == nil)
        let mount = try await Child.pool.run { () throws(VFSError) in
            try FUSEMount(path: path, options: FUSEMountOptions(source: "again"), operations: FakeFileSystem())
        }
        #expect(try await Child.pool.run { () throws(VFSError) in try FUSEMount.clearDeadMount(at: path) } == false)
        #expect(MountTable.top(at: path)?.source == "again")
        try await Child.pool.run { () throws(VFSError) in try mount.unmount(lazy: false) }
        await mount.waitUntilClosed()
    }

    @Test("Root unmounts and remounts the mount that it has looked at, not what the path has been made to lead to")
    func redirected() async throws {
        try requireRoot()
        let top = try TestMount.directory()
        defer { for name in ["d2/m", "d2", "e/m", "e", ""] { rmdir("\(top)/\(name)") } }
        var mounts: [FUSEMount] = []
        for name in ["d", "e"] {
            #expect(mkdir("\(top)/\(name)", 0o755) == 0 && mkdir("\(top)/\(name)/m", 0o755) == 0)
            mounts.append(
                try await Child.pool.run { () throws(VFSError) in
                    try FUSEMount(
                        path: "\(top)/\(name)/m", options: FUSEMountOptions(source: name), operations: FakeFileSystem())
                })
        }
        let seen = try #require(MountTable.top(at: "\(top)/d/m"))
        #expect(rename("\(top)/d", "\(top)/d2") == 0 && symlink("e", "\(top)/d") == 0)
        func refused() async {
            for lazy in [false, true] {
                let error = await #expect(throws: VFSError.self) {
                    try await Child.pool.run { () throws(VFSError) in try Mounting.unmount(seen, lazy: lazy) }
                }
                #expect(error?.code == .busy)
            }
            #expect(throws: VFSError.self) { _ = try HeldMount(seen) }
        }
        await refused()
        #expect(unlink("\(top)/d") == 0 && rename("\(top)/e", "\(top)/d") == 0)
        await refused()
        #expect(rename("\(top)/d", "\(top)/e") == 0)
        for (name, mount) in zip(["d2", "e"], mounts) {
            let there = try #require(MountTable.top(at: "\(top)/\(name)/m"))
            #expect(there.source == (name == "e" ? "e" : "d"))
            try await Child.pool.run { () throws(VFSError) in try Mounting.unmount(there, lazy: false) }
            await mount.waitUntilClosed()
        }
    }

    /// Mounts at its argument, says so, and answers INIT and GETATTR only.
    private static let daemon = """
        import ctypes, os, struct, sys
        path = sys.argv[1]
        device = os.open('/dev/fuse', os.O_RDWR)
        libc = ctypes.CDLL(None, use_errno=True)
        options = 'fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other' % device
        if libc.mount(b'left', path.encode(), b'fuse.cloudmount', 6, options.encode()): sys.exit(1)
        print('x', flush=True)
        while True:
            request = os.read(device, 1 << 18)
            size, opcode, unique = struct.unpack('IIQ', request[:16])
            if opcode == 26: body = struct.pack('IIIIHHI', 7, 31, 65536, 0, 12, 9, 65536) + bytes(40)
            elif opcode == 3:
                body = struct.pack('QII', 3600, 0, 0) + struct.pack('QQQQQQIIIIIIIIII', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0o40755, 2, 0, 0, 0, 4096, 0)
            elif opcode == 17: body = bytes(80)
            else:
                os.write(device, struct.pack('IiQ', 16, -38, unique)); continue
            os.write(device, struct.pack('IiQ', 16 + len(body), 0, unique) + body)
        """

    @Test("Many mounts come and go at once")
    func many() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<12 {
                group.addTask {
                    let files = FakeFileSystem()
                    try files.make("file\(index)")
                    try await TestMount.use(files, options: { $0.threads = 1 + index % 4 }) { mount in
                        let listed = try await output(of: "ls", in: mount)
                        #expect(listed == "file\(index)")
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    @Test("A user without privileges mounts and unmounts through fusermount3")
    func unprivileged() async throws {
        // As root the test runs itself again as nobody.
        if geteuid() == 0 {
            let again = CommandLine.arguments.map { "'\($0)'" }
            let user = "setpriv --reuid=65534 --regid=65534 --clear-groups --"
            // With a /dev/fuse that anyone may open, as nearly every system has it; this one may not.
            let outcome = try await Child.shell(
                """
                cd /tmp && exec unshare -m sh -c 'mknod -m 666 "$0" c 10 229 && mount --bind "$0" /dev/fuse && rm "$0" && exec "$@"' \
                /tmp/cm-fuse-device-\(getpid()) \(user) \(again[0]) \
                --testing-library swift-testing --filter CloudMountFUSETests.MountTests/unprivileged
                """, limit: 60)
            #expect(outcome.status == 0, "\(outcome.output)")
            #expect(outcome.output.contains("with 1 test"), "\(outcome.output)")
            return
        }
        let files = FakeFileSystem()
        try files.make("file", permissions: 0o644, bytes: Array("abc".utf8))
        try await TestMount.use(files, options: { $0.source = "cloudmount:a,b \\c" }) { mount in
            #expect(try await output(of: "cat file; stat -c %W file", in: mount) == "abc1000000000")
            let top = MountTable.top(at: mount.path)
            #expect(top?.source == "cloudmount:a,b \\c")
            #expect(top?.type == "fuse.cloudmount")
            try await Child.pool.run { () throws(VFSError) in try mount.mount.unmount(lazy: false) }
            await mount.mount.waitUntilClosed()
            #expect(mount.isGone)
        }
    }
}

extension TestMount {
    fileprivate var isGone: Bool { MountTable.top(at: path) == nil }
}
