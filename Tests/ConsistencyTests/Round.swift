import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import Glibc
import MemoryProvider
import MountHarness
import Synchronization
import TestSeeds

/// One bucket from its beginning to its end: two programs of a mount and one other client, over a bad line.
final class Round: Sendable {
    struct Setting: Sendable, CustomStringConvertible {
        var kind: StoreKind
        var hasTinyParts: Bool
        var rule: CachePolicy.OnConflict
        var patience: Int
        var hasBareAnswers: Bool
        /// Close and fsync return before the store has the bytes; the journal and the staged files outlive a crash.
        var writesBack: Bool
        var seed: UInt64

        init(seed: UInt64) {
            self.seed = seed
            kind = StoreKind.all[Int(seed % 5)]
            rule = [CachePolicy.OnConflict.keepBoth, .fail, .overwrite][Int(seed / 5 % 3)]
            hasTinyParts = seed / 15 % 3 == 0
            patience = Int(seed / 45 % 3)
            hasBareAnswers = seed / 135 % 2 == 0
            writesBack = seed / 270 % 2 == 0
        }

        var capabilities: Capabilities {
            var capabilities = kind.capabilities
            if hasTinyParts { capabilities.useTinyParts() }
            return capabilities
        }

        func apply(_ settings: inout MountSettings) {
            settings.policy.onConflict = rule
            if writesBack {
                settings.policy.write = .back
                settings.policy.writeDelay = .milliseconds(5)
            }
            switch patience {
            case 0: settings.policy.freshness = .always
            case 1:
                settings.policy.metadataTTL = .milliseconds(20)
                settings.policy.negativeTTL = .milliseconds(10)
            default: break
            }
        }

        var description: String {
            "SEED=\(seed) (\(kind.testDescription)\(hasTinyParts ? ", tiny parts" : "")\(hasBareAnswers ? ", bare answers" : "")\(writesBack ? ", write-back" : ""), \(rule.rawValue), "
                + "\(["never believing", "believing for 20 ms", "believing"][patience]))"
        }
    }

    static let actors = 3
    /// Rounds in which a violation of this name is found are told call by call.
    static let traced = getenv("TRACE").map { String(cString: $0) }
    static var isTraced: Bool { traced != nil }

    let setting: Setting
    let mount: Mount
    let history = Mutex(History())
    private let chaos: Chaos
    private let restarting = Turnstile()

    init(seed: UInt64) throws {
        setting = Setting(seed: seed)
        chaos = Chaos(seed: seed ^ 0xC4A05)
        let setting = setting
        mount = try Mount(
            setting.capabilities, chaos: chaos, keepsBytes: true, bareAnswers: setting.hasBareAnswers,
            journals: setting.writesBack
        ) { setting.apply(&$0) }
    }

    func violate(_ kind: String, _ example: String) { history.withLock { $0.violate(kind, example) } }

    /// - Parameter steps: of all actors together.
    /// - Returns: what was wrong.
    func run(steps: Int) async throws -> [String: (count: Int, example: String)] {
        let each = steps / Self.actors
        for key in ["a", "b", "x/a", "x/y/a"] { await foreignPut(key, number: UInt32(mount.ledger.tick()), blocks: 40) }
        await withTaskGroup(of: Void.self) { group in
            for writer in 1...2 {
                group.addTask {
                    let program = Program(self, writer: UInt16(writer), seed: self.setting.seed &* 4 &+ UInt64(writer))
                    for _ in 0..<each { await program.step() }
                    await self.calm()
                    await program.end()
                }
            }
            group.addTask {
                var random = SeededGenerator(seed: self.setting.seed &* 4 &+ 3)
                for _ in 0..<each { await self.foreignStep(&random) }
                await self.calm()
            }
        }
        await pause(.milliseconds(8))
        await mount.fs.drain()
        try await check()
        if let kind = Self.traced, history.withLock({ $0.violations.keys.contains { $0.contains(kind) } }) { trace() }
        return history.withLock { $0.violations }
    }

    /// What was called, and what became of the versions, in their order.
    private func trace() {
        let account = mount.ledger.account
        var lines = history.withLock { $0.log }
        lines += account.versions.values.map {
            "\($0.made) made \($0.key) \($0.etag) by \($0.maker) \($0.verb.rawValue) of \($0.source ?? "")"
                + " \($0.bytes.count) bytes, contents \(Block.parse($0.bytes).foreign)"
        }
        lines += account.destroyed.map {
            "\($0.time) lost \($0.version.key) \($0.version.etag) by \($0.by) \($0.verb.rawValue)"
        }
        lines += mount.namedFiles.map { "0 named \($0)" }
        lines.sort { (Int($0.prefix { $0.isNumber }) ?? 0) < (Int($1.prefix { $0.isNumber }) ?? 0) }
        for line in lines { print("TRACE \(setting.seed)", line) }
    }

    private let resting = Atomic(0)

    /// The line is good from the moment on at which all actors have done their steps.
    private func calm() async {
        resting.wrappingAdd(1, ordering: .sequentiallyConsistent)
        for _ in 0..<10_000 where resting.load(ordering: .sequentiallyConsistent) < Self.actors {
            try? await Task.sleep(for: .milliseconds(2))
        }
        chaos.end()
    }

    func restart(crash: Bool) async {
        await restarting.enter()
        let (life, now) = (mount.life.number, mount.ledger.tick())
        history.withLock { history in
            if crash { history.crashed.insert(life) } else { history.drained[life] = now }
        }
        // What a life that has crashed puts on record then nobody hears of again.
        if crash { mount.breakJournal() } else { await mount.fs.drain() }
        do { try mount.remount(crash: crash) } catch { violate("no new life", "\(error)") }
        restarting.leave()
    }

    // MARK: The other client

    private func foreignPut(_ key: String, number: UInt32, blocks: Int) async {
        let bytes = Block.bytes(Block.foreign, number, at: 0, count: blocks * Block.size)
        // Not visible before.
        let begin = mount.ledger.tick()
        history.withLock { $0.foreignPuts[number] = begin }
        do { try await mount.put(key, bytes) } catch { violate("the other client fails", "\(error)") }
    }

    private func foreignStep(_ random: inout SeededGenerator) async {
        let key = Program.paths[Int.random(in: 0..<Program.paths.count, using: &random)]
        let what = Int.random(in: 0..<10, using: &random)
        let blocks = Int.random(in: 1...120, using: &random)
        let time = UInt64.random(in: 500...6000, using: &random)
        try? await Task.sleep(for: .microseconds(time))
        switch what {
        case 0..<3: await foreignPut(key, number: UInt32(mount.ledger.tick()), blocks: blocks)
        case 3: _ = await outcome { () async throws(VFSError) in try await mount.delete(key) }
        case 4:
            let other = Program.paths[Int.random(in: 0..<Program.paths.count, using: &random)]
            _ = await outcome { () async throws(VFSError) in
                let info = try await mount.store.head(ObjectKey(other))
                _ = try await mount.foreign.copy(CopyRequest(source: info, destination: ObjectKey(key)))
            }
        default: break
        }
    }
}
