import Foundation
import Glibc
import TestServers
import Testing

/// Many mounts of one process.
extension MountTests {
    @Suite("Many mounts")
    struct ManyMounts {
        /// What the test below needs of `cloudmount status --json`.
        private struct Report: Decodable {
            struct Mount: Decodable {
                var name: String
                var state: String
                var reason: String?
                var nextTrySeconds: Int?
                var endpoint: Endpoint?
            }
            struct Endpoint: Decodable {
                var name: String
                var limit: Int
            }
            var mounts: [Mount]
        }

        private static func report(_ mount: MountFixture) async throws -> [String: Report.Mount] {
            let result = try await mount.command("status", "--json")
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            let report = try decoder.decode(Report.self, from: Data(result.output.utf8))
            return Dictionary(uniqueKeysWithValues: report.mounts.map { ($0.name, $0) })
        }

        @Test(
            "Twenty mounts of all kinds serve at once while one has a wrong key and one no answer; the latter comes when it can"
        )
        func twenty() async throws {
            let owner = try TemporaryFolder("twenty")
            let proxy = try FaultProxy(before: try await SeaweedFS.shared())
            try proxy.set(.blackHole)
            let shared = try await Bucket.make(in: .seaweedFS, below: owner.path)
            var lost = try await Bucket.make(in: .seaweedFS, below: owner.path)
            lost.endpoint = proxy.endpoint
            let policies = ["default", "media", "small-files", "strict"]
            var mounts: [(options: MountOptions, bucket: Bucket)] = []
            for number in 0..<16 {
                let policy = "cache: \(policies[number / 4])"
                switch number % 4 {
                case 0:
                    // Two of the same bucket, and more of them under other prefixes.
                    mounts.append(
                        (MountOptions(name: "m\(number)", settings: "\(policy), prefix: p\(number)/"), shared))
                case 1:
                    let bucket = try await Bucket.make(in: .seaweedFS, below: owner.path)
                    mounts.append((MountOptions(name: "m\(number)", settings: policy), bucket))
                case 2:
                    let bucket = try await Bucket.make(in: .folder, below: owner.path)
                    mounts.append((MountOptions(name: "m\(number)", settings: policy), bucket))
                default:
                    let bucket = Bucket(name: "trial\(number)", server: nil, endpoint: "", localProvider: "memory")
                    mounts.append((MountOptions(name: "m\(number)", settings: policy), bucket))
                }
            }
            for number in 16..<18 {
                let bucket = try await Bucket.make(in: .folder, below: owner.path)
                mounts.append((MountOptions(name: "m\(number)"), bucket))
            }
            let serving = mounts.map(\.options.name)
            let locked = try await Bucket.make(in: .seaweedFS, below: owner.path)
            mounts.insert((MountOptions(name: "locked", secret: "not the key"), locked), at: 0)
            mounts.insert((MountOptions(name: "lost", settings: "cache: { deadline: 4s }"), lost), at: 1)

            let start = ContinuousClock.now
            try await MountFixture.use(mounts, in: owner, expecting: serving) { mount in
                print("many: 18 of 20 serve after \(ContinuousClock.now - start), two of them fail")
                let asked = ContinuousClock.now
                let report = try await Self.report(mount)
                #expect(ContinuousClock.now - asked < .seconds(10))
                #expect(serving.allSatisfy { report[$0]?.state == "mounted" })
                try await Self.waitForFailure("locked", mount, reason: "HTTP 403")
                try await Self.waitForFailure("lost", mount, reason: "did not answer")
                // One server is one endpoint, a proxy before it another; what is local has one of its own.
                let endpoints = Set(report.values.compactMap(\.endpoint?.name))
                #expect(endpoints.count == 1 + 10, "\(endpoints)")

                // All at once, each on its own.
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for name in serving {
                        group.addTask {
                            try await mount.shell(
                                """
                                echo \(name) > who; mkdir d; head -c 300000 /dev/urandom > $W/\(name).bin
                                cp $W/\(name).bin d/data; sync d/data; cmp $W/\(name).bin d/data
                                """, on: name)
                        }
                    }
                    try await group.waitForAll()
                }
                for name in serving {
                    try await mount.shell(
                        "test \"$(cat who)\" = \(name); test \"$(ls | tr '\\n' ' ')\" = 'd who '", on: name)
                }
                let keys = try await shared.keys()
                #expect(
                    keys == [
                        "p0/d/data", "p0/who", "p12/d/data", "p12/who", "p4/d/data", "p4/who", "p8/d/data", "p8/who",
                    ])

                let process = try #require(await mount.daemon?.pid)
                print("many: \(Self.facts(of: process))")

                try proxy.set(.pass)
                let back = ContinuousClock.now
                while !mount.isMounted("lost") {
                    guard ContinuousClock.now - back < .seconds(90) else { throw TestSupportError("it never comes") }
                    try await Task.sleep(for: .milliseconds(50))
                }
                print(
                    "many: the one whose store did not answer is mounted \(ContinuousClock.now - back) after its return"
                )
                try await mount.shell("echo there > it; sync it", on: "lost")
                #expect(try await lost.content("it") == "there\n")

                // The end waits for nobody either.
                try proxy.set(.blackHole)
                let stopping = ContinuousClock.now
                try await mount.stop()
                print("many: all twenty are down after \(ContinuousClock.now - stopping)")
                #expect(ContinuousClock.now - stopping < .seconds(30))
            }
        }

        private static func waitForFailure(_ name: String, _ mount: MountFixture, reason: String) async throws {
            let start = ContinuousClock.now
            while true {
                if let found = try await report(mount)[name], found.state == "failed" {
                    #expect(found.reason?.contains(reason) == true, "\(found)")
                    #expect(found.nextTrySeconds != nil)
                    return
                }
                guard ContinuousClock.now - start < .seconds(60) else {
                    throw TestSupportError(
                        "\(name) has not failed: \(try await report(mount)[name].map { "\($0)" } ?? "")")
                }
                try await Task.sleep(for: .milliseconds(100))
            }
        }

        /// Memory and threads of a process.
        private static func facts(of process: Int32) -> String {
            readFile("/proc/\(process)/status").split(separator: "\n").filter {
                $0.hasPrefix("VmRSS") || $0.hasPrefix("RssAnon") || $0.hasPrefix("Threads")
            }.map { $0.split(whereSeparator: { $0 == "\t" || $0 == " " }).joined(separator: " ") }.joined(
                separator: ", ")
        }
    }
}
