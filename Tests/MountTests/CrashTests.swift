import Foundation
import Glibc
import TestSeeds
import TestServers
import Testing

extension MountTests {
    /// The daemon killed while a program works, again and again on one bucket: `Tests/Crash/workload.py` keeps the books.
    @Suite("Killed at any moment")
    struct CrashTests {
        /// Kills for each store and policy; `make crash` asks for many more.
        private static let points = inheritedEnvironment()["CLOUDMOUNT_CRASH_POINTS"].flatMap(Int.init) ?? 6

        private static let workload = "\(Tools.packageRoot)/Tests/Crash/workload.py"

        @Test(
            "What was acknowledged before the daemon was killed is there afterwards, whole, once and under its name",
            arguments: [(Store.seaweedFS, "back"), (.seaweedFS, "through"), (.b2, "back"), (.folder, "back")])
        func killed(store: Store, write: String) async throws {
            let seed =
                inheritedEnvironment()["CLOUDMOUNT_CRASH_SEED"].flatMap(UInt64.init) ?? UInt64.random(in: 0...9999)
            var random = SeededGenerator(seed: seed)
            print("crashes on \(store.rawValue), write: \(write), seed \(seed)")
            try await MountFixture.use(store, "cache: {write: \(write)}") { mount in
                await mount.expectBadEnd()
                let log = "\(mount.folder)/steps"
                var steps = 0
                for point in 0..<Self.points {
                    let user = try ChildProcess(
                        ["python3", Self.workload, "run", "\(random.next() % 100_000)", log],
                        environment: ["PYTHONDONTWRITEBYTECODE": "1"], directory: mount.path)
                    try await Task.sleep(for: .milliseconds(Int(random.next() % 1500)))
                    await mount.daemon?.signal(SIGKILL)
                    _ = await user.wait()
                    try await mount.startAfterKill()
                    // Killed again while it takes up what it was killed over.
                    if random.next() % 4 == 0 {
                        try await Task.sleep(for: .milliseconds(Int(random.next() % 200)))
                        await mount.daemon?.signal(SIGKILL)
                        try await mount.startAfterKill()
                    }
                    let verdict = try await ChildProcess.run(
                        ["python3", Self.workload, "check", log], environment: ["PYTHONDONTWRITEBYTECODE": "1"],
                        directory: mount.path, seconds: 120)
                    if !verdict.succeeded {
                        throw TestSupportError("seed \(seed), point \(point): \(verdict.output)\(verdict.errors)")
                    }
                    steps = Int(verdict.output.split(separator: "\n").last ?? "") ?? 0
                    try await mount.compareWithStore("seed \(seed), point \(point)")
                }
                // The log has one more for each kill.
                #expect(steps > 3 * Self.points)
                print("\(steps) steps were acknowledged on \(store.rawValue), write: \(write)")
            }
        }
    }
}

extension MountFixture {
    func startAfterKill() async throws {
        let place = path
        try await eventually("the dead mount gone") {
            _ = try await ChildProcess.run(["umount", "-l", place], seconds: 10)
            return !self.isMounted(self.mounts[0].options.name)
        }
        try await start()
    }

    /// All is stored, and the store has what the mount shows and no more.
    fileprivate func compareWithStore(_ place: String) async throws {
        try await eventually("all stored", seconds: 60) {
            try await self.status("mounts.0.dirty_files") == "0"
        }
        let shown = try await shell("find . -type f -printf '%P\\n'").split(separator: "\n").map(String.init).sorted()
        let stored = try await bucket.keys()
        if shown != stored { throw TestSupportError("\(place): shown \(shown), stored \(stored)") }
    }
}
