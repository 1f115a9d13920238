import CloudMountFilesystem
import CloudMountPlatform
import CloudMountVFS
import Glibc
import MountHarness
import Synchronization
import TrialMutex

/// Drives what answers on the caller's thread (content, tree, pools, reply boxes) from many threads at once, with a fixed
/// number of calls, for ThreadSanitizer to watch: `make tsan`. What the calls bring is checked by other tests.

let threads = 8
let calls = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 40_000

/// A generator that needs no seed from anywhere: each thread does the same in every run.
struct Dice {
    var state: UInt64
    mutating func roll(_ limit: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int(state >> 33) % limit
    }
}

/// Holds the answer to one call.
final class Slot<Value: Sendable>: Sendable {
    let value = Mutex<Value?>(nil)
    let answered = Semaphore()
}

/// One mount and what all threads have open on it.
final class Trial: Sendable {
    struct Shared: Sendable {
        var inode: InodeID
        var handle: HandleID
    }

    let mount: Mount
    let fs: MountedBucket
    let shared: [Shared]
    let pool: MemoryShare

    init(_ mount: Mount) async throws {
        self.mount = mount
        fs = mount.fs
        pool = mount.memory.share()
        for index in 0..<6 { try await mount.put("f\(index)", pattern(300_000, seed: UInt64(index))) }
        for index in 0..<20 { try await mount.put("d/\(index)", pattern(100)) }
        var shared: [Shared] = []
        for index in 0..<6 {
            let inode = try await mount.inode("f\(index)")
            shared.append(Shared(inode: inode, handle: try await mount.fs.open(inode, flags: index < 3 ? 2 : 0)))
        }
        self.shared = shared
    }

    /// Makes a call and waits, on this thread, for its answer; nil when it failed.
    @discardableResult
    func ask<Value, Kept: Sendable>(
        _ keep: @escaping @Sendable (Value) -> Kept, _ start: (consuming Reply<Value>) -> Void
    ) -> Kept? {
        let slot = Slot<Kept>()
        start(
            Reply { result in
                if case .success(let value) = result { slot.value.withLock { $0 = keep(value) } }
                slot.answered.signal()
            })
        guard slot.answered.wait(seconds: 120) else {
            print("thread-trial: a call has no answer")
            exit(1)
        }
        return slot.value.withLock { $0 }
    }

    @discardableResult
    func ask<Value: Sendable>(_ start: (consuming Reply<Value>) -> Void) -> Value? { ask({ $0 }, start) }

    private func name(_ text: String) -> FileName? { try? FileName(validating: text.utf8) }

    private func look(_ text: String, in parent: InodeID = Mount.root) {
        guard let name = name(text) else { return }
        let entry: Entry? = ask { fs.lookup(parent: parent, name: name, reply: $0) }
        if let inode = entry?.attributes?.inode { fs.forget(inode, count: 1) }
    }

    private func read(_ file: Shared, at offset: Int) {
        ask({ (slices: ReadSlices) in slices.slices.reduce(0) { $0 + Int($1.first ?? 0) } }) {
            fs.read(file.inode, handle: file.handle, offset: offset, count: 20_000, reply: $0)
        }
    }

    private func write(_ file: Shared, at offset: Int) {
        let bytes = [UInt8](repeating: 7, count: 5000)
        bytes.withUnsafeBytes { raw in
            _ = ask { (reply: consuming Reply<Int>) in
                fs.write(file.inode, handle: file.handle, offset: offset, bytes: raw, clearSetID: false, reply: reply)
            }
        }
    }

    private func change(_ inode: InodeID, _ change: (inout AttributeChanges) -> Void) {
        var changes = AttributeChanges()
        change(&changes)
        ask { fs.setattr(inode, handle: nil, changes: changes, caller: Mount.caller, reply: $0) }
    }

    private func makeAndRemove(_ text: String) {
        guard let name = name(text), let other = self.name(text + "-new") else { return }
        let made: CreateReply? = ask {
            fs.create(parent: Mount.root, name: name, mode: 0o644, flags: 2, caller: Mount.caller, reply: $0)
        }
        if let made, let inode = made.entry.attributes?.inode {
            write(Shared(inode: inode, handle: made.open.handle), at: 0)
            ask { fs.flush(inode, handle: made.open.handle, reply: $0) }
            ask { fs.release(inode, handle: made.open.handle, reply: $0) }
            fs.forget(inode, count: 1)
        }
        ask {
            fs.rename(
                parent: Mount.root, name: name, newParent: Mount.root, newName: other, flags: [], reply: $0)
        }
        ask { fs.unlink(parent: Mount.root, name: other, reply: $0) }
    }

    private func list(_ inode: InodeID) {
        let opened: OpenReply? = ask { fs.opendir(inode, reply: $0) }
        guard let handle = opened?.handle else { return }
        ask { fs.readdir(inode, handle: handle, offset: 0, plus: false, packer: Taker(), reply: $0) }
        ask { fs.releasedir(inode, handle: handle, reply: $0) }
    }

    private func openAndRead(_ file: Shared, truncating: Bool, _ offset: Int) {
        let opened: OpenReply? = ask {
            fs.open(file.inode, flags: truncating ? 0o1002 : 0, caller: Mount.caller, reply: $0)
        }
        guard let handle = opened?.handle else { return }
        let mine = Shared(inode: file.inode, handle: handle)
        read(mine, at: offset)
        ask { fs.flush(file.inode, handle: handle, reply: $0) }
        ask { fs.release(file.inode, handle: handle, reply: $0) }
    }

    /// Who answers first, and who interrupts, is left to chance.
    private func raceForReply() {
        let count = Atomic(0)
        let answers = AnswerCount()
        let box = ReplyBox(
            Reply<Int>(
                onInterrupt: { action in answers.actions.withLock { $0.append(action) } },
                completion: { _ in answers.count.wrappingAdd(1, ordering: .relaxed) }))
        box.onInterrupt { box.fail(.cancelled) }
        let other = NamedThread("cm-other") {
            for action in answers.actions.withLock({ $0 }) { action() }
        }
        box.send(1)
        other?.join()
        count.store(answers.count.load(ordering: .relaxed), ordering: .relaxed)
        if count.load(ordering: .relaxed) != 1 {
            print("thread-trial: a reply was answered \(count.load(ordering: .relaxed)) times")
            exit(1)
        }
    }

    func step(_ dice: inout Dice, _ thread: Int) {
        let file = shared[dice.roll(shared.count)]
        let offset = dice.roll(290_000)
        switch dice.roll(100) {
        case 0..<15: look("f\(dice.roll(8))")
        case 15..<22: ask { fs.getattr(file.inode, handle: nil, reply: $0) }
        case 22..<42: read(file, at: offset)
        case 42..<62: write(shared[dice.roll(3)], at: offset)
        case 62..<66: change(shared[dice.roll(3)].inode) { $0.size = offset }
        case 66..<68: change(file.inode) { $0.permissions = 0o640 }
        case 68..<74: ask { fs.flush(file.inode, handle: file.handle, reply: $0) }
        case 74..<80: openAndRead(file, truncating: dice.roll(4) == 0 && file.inode == shared[0].inode, offset)
        case 80..<83: makeAndRemove("t\(thread)")
        case 83..<85: makeAndRemove("t")
        case 85..<89: list(Mount.root)
        case 89..<90: _ = fs.statistics()
        case 90..<92: ask { fs.setxattr(file.inode, name: "user.a", value: [1, 2], flags: 0, reply: $0) }
        case 92..<94: ask { fs.listxattr(file.inode, reply: $0) }
        case 94..<95: raceForReply()
        default:
            let buffers = (0..<3).map { _ in pool.take(1 << (12 + dice.roll(8))) }
            for buffer in buffers { buffer?.bytes.storeBytes(of: 1, as: UInt8.self) }
        }
    }
}

final class AnswerCount: Sendable {
    let count = Atomic(0)
    let actions = Mutex<[@Sendable () -> Void]>([])
}

/// Takes every name.
final class Taker: DirectoryPacker {
    func add(_ entry: DirectoryEntry) -> Bool { true }
}

cm_trial_mutex()
if CommandLine.arguments.contains("race") {
    let racers = (0..<2).compactMap { _ in NamedThread("cm-race") { for _ in 0..<1000 { _ = cm_trial_race() } } }
    for racer in racers { racer.join() }
    exit(0)
}
let trial = try await Trial(try Mount(memory: 16 << 20))
let started = SystemClock.monotonic()
let crew = (0..<threads).compactMap { thread in
    NamedThread("cm-trial-\(thread)") {
        var dice = Dice(state: UInt64(thread) &* 0x9E37_79B9 &+ 1)
        for _ in 0..<calls / threads { trial.step(&dice, thread) }
    }
}
for thread in crew { thread.join() }
for file in trial.shared { try await trial.fs.release(file.inode, file.handle) }
await trial.fs.drain()
await settled { trial.mount.memoryUsed == 0 }
print("thread-trial: \(calls) calls of \(threads) threads in \((SystemClock.monotonic() - started) / 1_000_000) ms")
if trial.mount.memoryUsed != 0 {
    print("thread-trial: \(trial.mount.memoryUsed) bytes of memory are still used")
    exit(1)
}
