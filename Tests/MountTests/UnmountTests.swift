import Glibc
import TestServers
import Testing

extension MountTests {
    /// What keeps a mount alive, or in its place, beside the programs that have files of it open.
    @Suite("Mounts in use by other mounts", .serialized)
    struct Unmount {
        typealias Mounts = [(options: MountOptions, bucket: Bucket)]

        private func withFolder(_ body: (MountFixture, Mounts) async throws -> Void) async throws {
            let owner = try TemporaryFolder("mount")
            let mounts: Mounts = [
                (MountOptions(name: "a"), try await Bucket.make(in: .folder, below: owner.path))
            ]
            try await MountFixture.use(mounts, in: owner) { mount in
                try await mount.shell("mkdir d; echo kept > d/f")
                try await body(mount, mounts)
            }
        }

        private func expect(
            _ result: ChildProcess.Result, _ texts: String..., code: Int32 = 0,
            location: SourceLocation = #_sourceLocation
        ) {
            #expect(result.exit == .code(code), "\(result)", sourceLocation: location)
            for text in texts {
                #expect((result.output + result.errors).contains(text), "\(result)", sourceLocation: location)
            }
        }

        /// Binds the folder `d` of the mount to a place outside for as long as `body` runs.
        private func bound(
            _ mount: MountFixture, _ body: (String) async throws -> Void
        ) async throws {
            let place = "\(mount.folder)/bound"
            let duty = Reaper.atEnd("umount -l \(place.shellQuoted)")
            try await ChildProcess.output(of: ["mkdir", "-p", place])
            try await ChildProcess.output(of: ["mount", "--bind", "\(mount.path)/d", place])
            do { try await body(place) } catch {
                _ = try? await ChildProcess.run(["umount", "-l", place], seconds: 10)
                throw error
            }
            _ = try await ChildProcess.run(["umount", "-l", place], seconds: 10)
            Reaper.withdraw(duty)
        }

        @Test(
            "A reload ends though a bind mount keeps the old mount alive, which goes on beside the new one",
            arguments: [[], ["--force"]])
        func boundElsewhere(words: [String]) async throws {
            try await withFolder { mount, mounts in
                try await bound(mount) { place in
                    var moved = mounts
                    moved[0].options.path = mount.path(of: "elsewhere")
                    try mount.write(moved)
                    expect(
                        try await mount.reload(words), "a: remounted (path): the old mount is unmounted here", place)
                    #expect(mount.isMounted("elsewhere") && !mount.isMounted("a"))
                    #expect(try await mount.status("mounts.0.state") == "draining")
                    #expect(try await mount.status("mounts.0.pending").contains(place))
                    // Both serve.
                    let both = "cat \(place)/f \(mount.path(of: "elsewhere"))/d/f; echo more > \(place)/g"
                    #expect(try await ChildProcess.output(of: ["sh", "-c", both]) == "kept\nkept\n")
                    // The next reload does not meet the old one again.
                    try mount.write(mounts)
                    expect(try await mount.reload(words), "a: remounted (path)")
                    #expect(mount.isMounted("a"))
                }
                try await eventually("the end of the old mount") { try await mount.status("mounts.1.state") == "nil" }
                #expect(try await mount.shell("cat d/f d/g") == "kept\nmore\n")
            }
        }

        @Test("A reload ends though a container holds the mount, and tells which")
        func container() async throws {
            try await withFolder { mount, mounts in
                let container = try ChildProcess(
                    ["unshare", "-m", "--propagation", "private", "sh", "-c", "echo there; exec sleep 600"])
                try await eventually("the container") { container.transcript.contains("there") }
                try mount.write([(MountOptions(name: "b", path: mount.path(of: "a")), mounts[0].bucket)])
                expect(
                    try await mount.reload(), "a: removed: the old mount is unmounted here", "b: added",
                    "process \(container.pid) (sleep) in another mount namespace")
                #expect(try await mount.shell("cat d/f", on: "a") == "kept\n")
                container.stop()
                try await eventually("the end of the old mount") { try await mount.status("mounts.1.state") == "nil" }
            }
        }

        @Test("What is mounted inside a mount keeps it where it is, and is told; by force it goes along")
        func inside() async throws {
            try await withFolder { mount, mounts in
                let store = "\(mount.folder)/other"
                try await ChildProcess.output(of: ["mkdir", store])
                try await ChildProcess.output(of: ["mount", "--bind", store, "\(mount.path)/d"])
                var moved = mounts
                moved[0].options.path = mount.path(of: "elsewhere")
                try mount.write(moved)
                let reason = "something is mounted inside it: \(mount.path)/d"
                expect(try await mount.reload(), "a: pending (path): \(reason)")
                #expect(try await mount.status("mounts.0.pending") == "to be remounted: \(reason)")
                expect(try await mount.command("unmount", "a"), "a is in use: \(reason)", code: 1)
                // A reload is never in the way of the next one.
                expect(try await mount.reload(), "a: pending (path): \(reason)")
                expect(try await mount.reload(["--force"]), "a: remounted (path)")
                #expect(mount.isMounted("elsewhere") && !mount.isMounted("a"))
            }
        }

        @Test("An unmount ends though a bind mount keeps the mount alive; the daemon ends with that")
        func unmount() async throws {
            try await withFolder { mount, _ in
                try await bound(mount) { place in
                    expect(try await mount.command("unmount", "a"), "a: unmounted here and still in use", place)
                    #expect(!mount.isMounted("a"))
                    expect(try await mount.command("unmount", "--all"), place)
                    #expect(try await ChildProcess.output(of: ["cat", "\(place)/f"]) == "kept\n")
                    #expect(await mount.daemon?.poll() == nil)
                }
                #expect(await mount.daemon?.wait(seconds: 30) == .code(0))
            }
        }

        @Test("What was unmounted by hand and a bind mount keeps alive is mounted again by a reload")
        func unmountedByHand() async throws {
            try await withFolder { mount, _ in
                try await bound(mount) { place in
                    try await ChildProcess.output(of: ["umount", mount.path])
                    expect(try await mount.reload(), "a: added")
                    #expect(try await mount.shell("cat d/f") == "kept\n")
                    #expect(try await mount.status("mounts.0.pending").contains(place))
                    // An unmount of it takes the new one, and leaves the old to its users.
                    expect(try await mount.command("unmount", "a"), place)
                    #expect(!mount.isMounted("a"))
                    #expect(try await ChildProcess.output(of: ["cat", "\(place)/f"]) == "kept\n")
                }
                #expect(await mount.daemon?.wait(seconds: 30) == .code(0))
            }
        }

        @Test("A stop ends though a bind mount keeps the mount alive")
        func stop() async throws {
            try await withFolder { mount, _ in
                try await bound(mount) { _ in
                    await mount.daemon?.signal(SIGTERM)
                    #expect(await mount.daemon?.wait(seconds: 30) == .code(0))
                }
            }
        }

        @Test("A folder that does not answer keeps neither the other mounts nor a stop")
        func deafFolder() async throws {
            try await withFolder { deaf, mounts in
                await deaf.daemon?.signal(SIGSTOP)
                let owner = try TemporaryFolder("mount")
                let both: Mounts = [
                    (MountOptions(name: "x", path: deaf.path), mounts[0].bucket),
                    (MountOptions(name: "b"), try await Bucket.make(in: .folder, below: owner.path)),
                ]
                do {
                    try await MountFixture.use(both, in: owner, expecting: ["b"]) { mount in
                        #expect(try await mount.status("mounts.0.state") == "starting")
                        #expect(try await mount.status("mounts.1.state") == "mounted")
                        try await mount.shell("echo 1 > f; cat f", on: "b")
                        try await mount.stop()
                    }
                } catch { Issue.record(error) }
                await deaf.daemon?.signal(SIGCONT)
            }
        }

        @Test("Clients that say nothing, or do not read, keep nobody from the status")
        func silentClients() async throws {
            try await withFolder { mount, _ in
                let clients = try await mount.background(
                    """
                    import socket
                    held = []
                    for index in range(100):
                        one = socket.socket(socket.AF_UNIX)
                        one.connect(W + "/control.sock")
                        if index % 2: one.send(b'{"command":"status"}\\n')
                        held.append(one)
                        if index == 20: open(W + "/silent", "w").close()
                        time.sleep(0.02)
                    while not os.path.exists(W + "/loud"): time.sleep(0.02)
                    """, in: mount.folder)
                try await eventually("the clients") { access("\(mount.folder)/silent", F_OK) == 0 }
                for _ in 0..<5 { #expect(try await mount.status("mounts.0.state") == "mounted") }
                try writeFile("\(mount.folder)/loud", "")
                #expect(await clients.wait() == .code(0), "\(clients.transcript)")
            }
        }

        /// As mount(8) does it, with the built binary in the place of the helper that it calls.
        private func remount(_ mount: MountFixture, _ options: String) async throws -> ChildProcess.Result {
            let script =
                "mount --bind \(MountFixture.binary.shellQuoted) /usr/sbin/mount.fuse3 && "
                + "mount -o remount,\(options) \(mount.path.shellQuoted)"
            return try await ChildProcess.run(
                ["unshare", "-m", "--propagation", "private", "sh", "-c", script], seconds: 60)
        }

        @Test("mount -o remount,ro refuses new writes and remount,rw takes them again, unless files are being written")
        func remountReadOnly() async throws {
            try await withFolder { mount, mounts in
                func isReadOnly() -> Bool {
                    readFile("/proc/mounts").contains(" \(mount.path) fuse.cloudmount ro,")
                }
                try await mount.shell("echo 1 > before")
                expect(try await remount(mount, "ro"))
                #expect(isReadOnly())
                #expect(try await mount.status("mounts.0.read_only") == "1")
                try await mount.python("fails(errno.EROFS, write, 'x', b'x'); fails(errno.EROFS, os.mkdir, 'y')")
                #expect(try await mount.shell("cat before") == "1\n")
                // Nothing has changed in the file, so that a reload leaves it.
                expect(try await mount.reload(), "a: kept")
                #expect(isReadOnly())
                expect(try await remount(mount, "rw"))
                #expect(!isReadOnly())
                #expect(try await mount.shell("echo 2 > after; cat after") == "2\n")
                #expect(try await mount.status("mounts.0.read_only") == "0")

                let marker = "\(mount.folder)/open"
                let writer = try await mount.background(
                    """
                    file = open("open", "w")
                    write("\(marker)", b"")
                    while not os.path.exists("\(marker).end"): time.sleep(0.02)
                    file.write("all")
                    file.close()
                    """)
                try await eventually("the writer") { access(marker, F_OK) == 0 }
                expect(try await remount(mount, "ro"), "files are open for writing", code: 32)
                #expect(!isReadOnly())
                try writeFile(marker + ".end", "")
                #expect(await writer.wait() == .code(0), "\(writer.transcript)")
                #expect(try await mount.shell("cat open") == "all")

                // What the file says stays.
                var fixed = mounts
                fixed[0].options.settings = "read_only: true"
                try mount.write(fixed)
                expect(try await mount.reload(), "a: remounted (read_only)")
                expect(try await remount(mount, "rw"), "'a' is read-only by its configuration", code: 32)
                #expect(isReadOnly())
            }
        }
    }
}
