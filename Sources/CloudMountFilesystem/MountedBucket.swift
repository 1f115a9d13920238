package import CloudMountCache
import CloudMountCommit
package import CloudMountPlatform
package import CloudMountStaging
package import CloudMountVFS
import Logging

/// One bucket (or a prefix of one) as a file system: the door through which the kernel's questions come in.
///
/// What can be answered from memory or local disk is answered on the calling thread; the rest goes to a task that owns
/// the reply. What a question means is known in the rooms behind: `Tree/` (names), `Content/` (bytes), `Changes/`.
///
/// Which lock comes before which stands in ARCHITECTURE.md.
public final class MountedBucket: FileOperations {
    private let context: MountContext
    private let tree: Tree
    private let handles = Handles()
    private let resolver: Resolver
    private let revalidator: Revalidator
    private let lister: Lister
    private let directoryReader: DirectoryReader
    private let commits: Commits
    private let writeBack: WriteBack
    private let creator: Creator
    private let remover: Remover
    private let renamer: Renamer
    private let attributes: AttributeChanger
    private let markers: Markers
    private let room: Room
    private let saved: SavedNames
    let filesAhead: FilesAhead
    private let poller: Poller

    /// - Parameters:
    ///   - provider: prepared, and already wrapped in its layers.
    ///   - staging: where the bytes of writers are kept until they are committed; shared by all mounts.
    ///   - memory: the process-wide budget for bytes read ahead; shared by all mounts.
    ///   - isCutOff: whether the store would not be asked now; asked on any thread.
    ///   - refusesWrites: asked before each create and write, on the thread that serves it: why it would not be stored; nil lets it be.
    package init(
        settings: MountSettings, provider: any ObjectProvider, staging: StagingArea, memory: BufferPool,
        journal: Journal? = nil, versions: VersionStore? = nil, names: NamesFolder? = nil,
        clock: FilesystemClock = .system,
        refusesWrites: @escaping @Sendable () -> VFSError? = { nil },
        isCutOff: @escaping @Sendable () -> Bool = { false }
    ) {
        let context = MountContext(
            settings: settings, provider: provider, staging: staging, memory: memory, journal: journal,
            versions: versions, names: names, clock: clock, refusesWrites: refusesWrites,
            isCutOff: isCutOff)
        let late = LateHooks()
        let hooks = ContentHooks(
            whenFree: { await late.whenFree($0) }, gone: { await late.gone($0, $1) },
            cuts: { inode throws(VFSError) in try late.cuts(inode) }, ahead: { late.ahead($0) })
        let tree = Tree(context: context) { inode, base, size in
            FileContent(inode: inode, base: base, size: size, context: context, hooks: hooks)
        }
        let sweeper = Sweeper(context: context, tree: tree)
        let revalidator = Revalidator(context: context, tree: tree, sweeper: sweeper)
        saved = SavedNames(context: context, tree: tree, sweeper: sweeper)
        let lister = Lister(context: context, tree: tree, revalidator: revalidator, sweeper: sweeper, saved: saved)
        let resolver = Resolver(
            context: context, tree: tree, revalidator: revalidator, lister: lister, sweeper: sweeper, saved: saved)
        let markers = Markers(context: context, tree: tree)
        let commits = Commits(context: context, tree: tree, revalidator: revalidator, markers: markers)
        filesAhead = FilesAhead(context: context, tree: tree)
        late.set(tree, revalidator, commits, filesAhead)
        writeBack = WriteBack(context: context, tree: tree, commits: commits)
        let remover = Remover(context: context, tree: tree, resolver: resolver, commits: commits, markers: markers)
        poller = Poller(context: context, tree: tree)
        self.context = context
        room = Room(context: context)
        self.tree = tree
        self.revalidator = revalidator
        self.lister = lister
        self.resolver = resolver
        self.commits = commits
        self.remover = remover
        self.markers = markers
        directoryReader = DirectoryReader(tree: tree, lister: lister, revalidator: revalidator)
        creator = Creator(context: context, tree: tree, resolver: resolver, markers: markers, commits: commits)
        renamer = Renamer(
            context: context, tree: tree, resolver: resolver, remover: remover, commits: commits, markers: markers)
        attributes = AttributeChanger(
            context: context, tree: tree, revalidator: revalidator, writeBack: writeBack, markers: markers)
        poller.start()
    }

    /// What the daemon does with the mount beside serving it.
    package var upkeep: Upkeep {
        Upkeep(
            context: context, tree: tree, handles: handles, commits: commits, markers: markers, saved: saved,
            poller: poller)
    }

    /// Whom to tell of changes that the kernel must learn of; set once, before the first request.
    public func attach(_ notifier: any KernelNotifier) { context.attach(notifier) }

    // MARK: Administration

    public func settings() -> MountSettings { context.settings() }

    /// Goes on with other settings. Open files are not disturbed; what is known is valid no longer than the new settings
    /// say, and the kernel is told to ask again for what it would believe for longer. The exception are names that it was
    /// told to be absent by a complete listing: those it asks for again within ten seconds by itself.
    ///
    /// The mount's name, whether it is read-only, keeps access control lists and follows symbolic links stay as they are.
    public func update(_ settings: MountSettings) { upkeep.update(settings) }

    /// Refuses changes from now on, or takes them again. What is dirty stays so: `drain` it before and after.
    public func setReadOnly(_ isOn: Bool) { _ = context.replace { $0.readOnly = isOn } }

    /// Commits what open files hold that the store does not have, once it is all on disk. Failures stay in `statistics`,
    /// their bytes on disk.
    public func drain() async { await commits.drain() }

    /// For copies of what was just stored, and for files that were fetched before they were opened.
    package var bytesKept: Int { context.recent.used + filesAhead.used }

    public func statistics() -> MountStatistics {
        var statistics = MountStatistics()
        tree.count(into: &statistics)
        commits.count(into: &statistics)
        statistics.poll = poller.report()
        return statistics
    }

    // MARK: The slow path

    private func slow<Value: Sendable>(
        _ reply: consuming Reply<Value>, changing subjects: [SlowPath.Subject] = [],
        discard: @escaping @Sendable (Value) -> Void = { _ in },
        _ work: @escaping @Sendable () async throws(VFSError) -> Value
    ) {
        SlowPath(context: context).run(reply, changing: subjects, discard: discard, work)
    }

    private func discard(_ entry: Entry) {
        if let inode = entry.attributes?.inode { untold(inode) }
    }

    /// - Parameter isNew: the file was made for who does not wait for it any more, and holds its name for nobody.
    private func discard(_ created: CreateReply, _ place: Place, isNew: Bool) {
        guard let inode = created.entry.attributes?.inode else { return }
        guard isNew, let file = handles.close(created.open.handle) else {
            release(inode, handle: created.open.handle, reply: Reply { _ in })
            return forget(inode, count: 1)
        }
        file.content.closed(file.id)
        tree.closed(inode, canWrite: true)
        commits.closed(inode)
        context.begin {
            _ = await attempt { () async throws(VFSError) in try await self.remover.unmake(place, inode) }
            // Somebody else has taken it for theirs.
            await self.commits.commitUnheard(inode)
            self.forget(inode, count: 1)
        }
    }

    /// Why nothing may be changed; nil when it may.
    private func writeRefusal() -> VFSError? {
        context.settings().readOnly ? VFSError(.readOnly, "the mount is read-only") : nil
    }

    // MARK: Names

    public func lookup(parent: InodeID, name: FileName, reply: consuming Reply<Entry>) {
        let place = Place(parent: parent, name: name)
        switch attemptNow({ () throws(VFSError) in try resolver.entryNow(place) }) {
        case .success(let entry?): reply.send(entry)
        case .failure(let error): reply.fail(error)
        case .success(nil):
            slow(reply, discard: { self.discard($0) }) { () async throws(VFSError) in
                try await self.resolver.entry(place)
            }
        }
    }

    public func forget(_ inode: InodeID, count: UInt64) { tree.forget(inode, count: count) }
    public func untold(_ inode: InodeID) { tree.untold(inode) }

    public func mknod(
        parent: InodeID, name: FileName, mode: UInt32, device: UInt32, caller: Caller, reply: consuming Reply<Entry>
    ) {
        guard let kind = FileKind(rawValue: mode & 0o170000 == 0 ? FileKind.regular.rawValue : mode & 0o170000),
            kind != .directory, kind != .symbolicLink
        else { return reply.fail(.invalidArgument, "mknod makes no such thing") }
        make(Place(parent: parent, name: name), kind, mode, caller, reply) { attributes in
            if device != 0 { attributes.device = device }
        }
    }

    public func symlink(
        target: String, parent: InodeID, name: FileName, caller: Caller, reply: consuming Reply<Entry>
    ) {
        var caller = caller
        caller.umask = 0
        make(Place(parent: parent, name: name), .symbolicLink, 0o777, caller, reply, body: target) {
            $0.symlinkTarget = target
            $0.symlinkTargetInBody = true
        }
    }

    private func make(
        _ place: Place, _ kind: FileKind, _ mode: UInt32, _ caller: Caller, _ reply: consuming Reply<Entry>,
        body: String = "", _ describe: @escaping @Sendable (inout StoredAttributes) -> Void
    ) {
        let linkRefusal = kind == .symbolicLink ? context.linkRefusal(.notPermitted) : nil
        if let refusal = writeRefusal() ?? linkRefusal { return reply.fail(refusal) }
        slow(reply, changing: [.name(place)], discard: { self.discard($0) }) { () async throws(VFSError) in
            try await self.creator.make(place, kind, mode, caller, body: body, describe)
        }
    }

    public func mkdir(parent: InodeID, name: FileName, mode: UInt32, caller: Caller, reply: consuming Reply<Entry>) {
        if let refusal = writeRefusal() { return reply.fail(refusal) }
        let place = Place(parent: parent, name: name)
        slow(reply, changing: [.name(place)], discard: { self.discard($0) }) { () async throws(VFSError) in
            try await self.creator.makeDirectory(place, mode: mode, caller)
        }
    }

    public func unlink(parent: InodeID, name: FileName, reply: consuming Reply<Void>) {
        if let refusal = writeRefusal() { return reply.fail(refusal) }
        let place = Place(parent: parent, name: name)
        slow(reply, changing: [.name(place)]) { () async throws(VFSError) in try await self.remover.unlink(place) }
    }

    public func rmdir(parent: InodeID, name: FileName, reply: consuming Reply<Void>) {
        if let refusal = writeRefusal() { return reply.fail(refusal) }
        let place = Place(parent: parent, name: name)
        slow(reply, changing: [.name(place)]) { () async throws(VFSError) in
            try await self.remover.removeDirectory(place)
        }
    }

    public func rename(
        parent: InodeID, name: FileName, newParent: InodeID, newName: FileName, flags: RenameFlags,
        reply: consuming Reply<Void>
    ) {
        if let refusal = writeRefusal() { return reply.fail(refusal) }
        guard flags.subtracting(.noReplace).isEmpty else {
            return reply.fail(.invalidArgument, "a store cannot exchange two names")
        }
        let (source, target) = (Place(parent: parent, name: name), Place(parent: newParent, name: newName))
        slow(reply, changing: [.name(source), .name(target)]) { () async throws(VFSError) in
            try await self.renamer.rename(source, to: target, noReplace: flags.contains(.noReplace))
        }
    }

    // MARK: Directories

    public func opendir(_ inode: InodeID, reply: consuming Reply<OpenReply>) {
        switch attemptNow({ () throws(VFSError) in try lister.opened(inode) }) {
        case .failure(let error): reply.fail(error)
        case .success: reply.send(OpenReply(handle: handles.openDirectory(inode)))
        }
    }

    public func releasedir(_ inode: InodeID, handle: HandleID, reply: consuming Reply<Void>) {
        if let open = handles.closeDirectory(handle) { lister.closed(open.inode) }
        reply.send()
    }

    public func fsyncdir(_ inode: InodeID, handle: HandleID, dataOnly: Bool, reply: consuming Reply<Void>) {
        reply.send()  // Every change of a directory is in the store when its call returns.
    }

    public func readdir(
        _ inode: InodeID, handle: HandleID, offset: Int, plus: Bool, packer: any DirectoryPacker,
        reply: consuming Reply<Void>
    ) {
        guard let open = handles.directory(handle) else { return reply.fail(.badHandle) }
        if offset == 0 { open.read(nil) }
        switch attemptNow({ () throws(VFSError) in
            try directoryReader.pack(open, offset, plus, packer, describing: true)
        }) {
        case .failure(let error): reply.fail(error)
        case .success(.done): reply.send()
        case .success(let step):
            slow(reply) { () async throws(VFSError) in
                try await self.directoryReader.fill(packer, open, offset, plus: plus, from: step)
            }
        }
    }

    // MARK: Attributes

    public func getattr(_ inode: InodeID, handle: HandleID?, reply: consuming Reply<AttributeReply>) {
        switch attemptNow({ () throws(VFSError) in try tree.getattr(inode) }) {
        case .success(let known?): reply.send(known.reply())
        case .failure(let error): reply.fail(error)
        case .success(nil):
            slow(reply, discard: { _ in self.tree.untold(inode, count: 0) }) { () async throws(VFSError) in
                try await self.revalidator.revalidateOrRemember(inode)
                return try self.tree.attributes(of: inode).reply()
            }
        }
    }

    public func setattr(
        _ inode: InodeID, handle: HandleID?, changes: AttributeChanges, caller: Caller,
        reply: consuming Reply<AttributeReply>
    ) {
        if let refusal = writeRefusal() { return reply.fail(refusal) }
        slow(reply, changing: [.inode(inode)]) { () async throws(VFSError) in
            try await self.attributes.change(inode, changes, byName: handle == nil)
            return try self.tree.attributes(of: inode).reply()
        }
    }

    public func access(_ inode: InodeID, mask: Int32, caller: Caller, reply: consuming Reply<Void>) { reply.send() }

    public func readlink(_ inode: InodeID, reply: consuming Reply<String>) {
        if let target = attributes.targetNow(of: inode) { return reply.send(target) }
        slow(reply) { () async throws(VFSError) in try await self.attributes.target(of: inode) }
    }

    public func getxattr(_ inode: InodeID, name: String, reply: consuming Reply<[UInt8]>) {
        if let refusal = attributes.refusal(of: name, changing: false) { return reply.fail(refusal) }
        if name == AttributeChanger.stateAttribute { return reply.send(Array(attributes.state(of: inode).utf8)) }
        switch attemptNow({ () throws(VFSError) in try attributes.xattrNow(inode, name) }) {
        case .success(let value?): reply.send(value)
        case .failure(let error): reply.fail(error)
        case .success(nil):
            slow(reply) { () async throws(VFSError) in try await self.attributes.xattr(inode, name) }
        }
    }

    public func listxattr(_ inode: InodeID, reply: consuming Reply<[String]>) {
        if let names = attributes.xattrNamesNow(inode) { return reply.send(names) }
        slow(reply) { () async throws(VFSError) in try await self.attributes.xattrNames(inode) }
    }

    public func setxattr(
        _ inode: InodeID, name: String, value: [UInt8], flags: Int32, reply: consuming Reply<Void>
    ) {
        if let refusal = writeRefusal() ?? attributes.refusal(of: name, changing: true) { return reply.fail(refusal) }
        slow(reply, changing: [.inode(inode)]) { () async throws(VFSError) in
            try await self.attributes.setXattr(inode, name, value, flags: flags)
        }
    }

    public func removexattr(_ inode: InodeID, name: String, reply: consuming Reply<Void>) {
        if let refusal = writeRefusal() ?? attributes.refusal(of: name, changing: true) { return reply.fail(refusal) }
        slow(reply, changing: [.inode(inode)]) { () async throws(VFSError) in
            try await self.attributes.removeXattr(inode, name)
        }
    }

    public func statfs(reply: consuming Reply<FileSystemStatistics>) {
        room.answer(reply)
    }

    // MARK: Files

    public func create(
        parent: InodeID, name: FileName, mode: UInt32, flags: Int32, caller: Caller, reply: consuming Reply<CreateReply>
    ) {
        if let refusal = writeRefusal() { return reply.fail(refusal) }
        let place = Place(parent: parent, name: name)
        switch attemptNow({ () throws(VFSError) in
            try creator.createNow(place, mode: mode, flags: flags, caller)
        }) {
        case .success(let made?): reply.send(opened(made))
        case .failure(let error): reply.fail(error)
        case .success(nil):
            let isNew = Flag()
            slow(reply, changing: [.name(place)], discard: { self.discard($0, place, isNew: isNew.isUp()) }) {
                () async throws(VFSError) -> CreateReply in
                switch try await self.creator.create(place, mode: mode, flags: flags, caller) {
                case .opened(let made):
                    isNew.raise()
                    return self.opened(made)
                case .exists(let inode):
                    let open = try await self.openExisting(inode, flags, clearSetID: false, isTold: true)
                    return CreateReply(entry: try self.resolver.entry(of: inode), open: open)
                }
            }
        }
    }

    private func opened(_ made: Creator.Opened) -> CreateReply {
        let policy = context.policy()
        var open = OpenReply(
            handle: handles.open(
                made.content.inode, made.content, canWrite: true, prefetch: policy.effectivePrefetch))
        open.keepCache = policy.data != .off
        return CreateReply(entry: made.entry, open: open)
    }

    public func open(_ inode: InodeID, flags: Int32, caller: Caller, reply: consuming Reply<OpenReply>) {
        let clearSetID = caller.clearSetID
        switch attemptNow({ () throws(VFSError) in
            try openNow(inode, flags, isCurrent: false, clearSetID: clearSetID)
        }) {
        case .success(let open?): reply.send(open)
        case .failure(let error): reply.fail(error)
        case .success(nil):
            slow(reply, discard: { self.release(inode, handle: $0.handle, reply: Reply { _ in }) }) {
                () async throws(VFSError) in
                try await self.openExisting(inode, flags, clearSetID: clearSetID)
            }
        }
    }

    /// Opens after asking the store whether the version is still current.
    /// - Parameter isTold: the attributes go with the answer.
    private func openExisting(
        _ inode: InodeID, _ flags: Int32, clearSetID: Bool, isTold: Bool = false
    ) async throws(VFSError) -> OpenReply {
        try await revalidator.revalidateOrRemember(inode)
        for _ in 0..<4 {
            let open = try openNow(inode, flags, isCurrent: true, clearSetID: clearSetID, isTold: isTold)
            if let open { return open }
            // It is being made, removed or replaced: what is left of it then is for the kernel to look up.
            await tree.whenFree(inode)
        }
        throw VFSError(.stale, "the file is gone")
    }

    /// Nil when the store has to be asked first.
    private func openNow(
        _ inode: InodeID, _ flags: Int32, isCurrent: Bool, clearSetID: Bool, isTold: Bool = false
    ) throws(VFSError) -> OpenReply? {
        let use = FileUse(flags: flags, isTold: isTold)
        let canWrite = use.canWrite
        if canWrite { try context.requireWritable() }
        let policy = context.policy()
        guard let opened = try tree.open(inode, use, isCurrent: isCurrent, trusts: policy.freshness == .ttl)
        else { return nil }
        if opened.kernelIsBehind {
            opened.content.kernelIsBehind { context.tellKernel { $0.expireAttributes(inode) } }
        }
        if use.truncates {
            do throws(VFSError) {
                tree.wrote(inode, try opened.content.truncate(to: 0), clearSetID: clearSetID)
            } catch {
                tree.closed(inode, canWrite: canWrite)
                throw error
            }
        }
        var reply = OpenReply(
            handle: handles.open(
                inode, opened.content, canWrite: canWrite, isDirect: use.isDirect,
                prefetch: policy.effectivePrefetch))
        reply.keepCache = opened.isCached && policy.data != .off && !use.truncates
        if reply.keepCache, opened.hasPages { opened.content.noteSeen() }
        reply.noFlush = !canWrite
        return reply
    }

    public func read(
        _ inode: InodeID, handle: HandleID, offset: Int, count: Int, reply: consuming Reply<ReadSlices>
    ) {
        guard let file = handles.file(handle) else { return reply.fail(.badHandle) }
        if file.firstRead() { filesAhead.begins(file) }
        file.content.read(Extent(offset: offset, count: count), handle: file, reply: reply)
    }

    public func write(
        _ inode: InodeID, handle: HandleID, offset: Int, bytes: UnsafeRawBufferPointer, clearSetID: Bool,
        reply: consuming Reply<Int>
    ) {
        guard let file = handles.file(handle) else { return reply.fail(.badHandle) }
        guard offset <= context.capabilities.maxObjectSize - bytes.count else {
            return reply.fail(.tooLarge, "larger than the store allows")
        }
        if let no = writeRefusal() ?? context.refusesWrites() ?? writeBack.refusal(inode) { return reply.fail(no) }
        let onDisk = commits.isDraining()
        switch attemptNow({ () throws(VFSError) in try file.content.write(bytes, at: offset, onDisk: onDisk) }) {
        case .failure(let error): reply.fail(error)
        case .success(let change):
            changed(file.inode, change, clearSetID: clearSetID)
            if change.size >= StreamingUpload.threshold { streamUp(file) }
            reply.send(bytes.count)
        }
    }

    private func changed(_ inode: InodeID, _ change: ContentChange, clearSetID: Bool) {
        if tree.wrote(inode, change, clearSetID: clearSetID) {
            context.tellKernel { $0.expireAttributes(inode) }
        }
    }

    /// Begins to send a new file that is being written from front to back.
    private func streamUp(_ file: OpenFile) {
        guard context.capabilities.multipart, file.content.isStreamable(), let seal = tree.stored.seal(file.inode),
            let metadata = try? AttributeCodec.encodeWhatFits(
                seal.attributes.withoutTimes, limit: context.capabilities.maxMetadataBytes
            ).metadata
        else { return }
        file.content.streamUp(seal.key, metadata)
    }

    public func flush(_ inode: InodeID, handle: HandleID, reply: consuming Reply<Void>) {
        guard let file = handles.file(handle) else { return reply.fail(.badHandle) }
        guard file.canWrite else { return reply.send() }
        commit(file, reply)
    }

    public func fsync(_ inode: InodeID, handle: HandleID, dataOnly: Bool, reply: consuming Reply<Void>) {
        guard let file = handles.file(handle) else { return reply.fail(.badHandle) }
        // Of any descriptor: the bytes are the file's.
        commit(file, toStore: context.policy().sync == .store, reply)
    }

    private func commit(_ file: OpenFile, toStore: Bool = false, _ reply: consuming Reply<Void>) {
        switch writeBack.answerNow(file.inode, file.content) {
        case .success: reply.send()
        case .failure(let error): reply.fail(error)
        case nil:
            slow(reply) { () async throws(VFSError) in
                if toStore { return try await self.commits.commit(file.inode) }
                try await self.writeBack.persist(file.inode)
            }
        }
    }

    public func release(_ inode: InodeID, handle: HandleID, reply: consuming Reply<Void>) {
        guard let file = handles.close(handle) else { return reply.fail(.badHandle) }
        file.content.closed(file.id)
        // Pages of a shared mapping may come after the last flush.
        let isDirty =
            file.canWrite && tree.dirtyGeneration(file.inode) != nil && commits.entries.error(file.inode) == nil
            && !writeBack.isOnRecord(file.inode, file.content)
        guard isDirty else {
            closed(file)
            return reply.send()
        }
        reply.send()
        context.begin {
            await self.writeBack.persistUnheard(file.inode)
            self.closed(file)
        }
    }

    private func closed(_ file: OpenFile) {
        let isLeft = tree.closed(file.inode, canWrite: file.canWrite)
        commits.closed(file.inode)
        // Changed while its last commit was under way, by who thought that a writer takes the change along.
        guard isLeft, commits.entries.error(file.inode) == nil, !writeBack.isOnRecord(file.inode, file.content)
        else { return }
        context.begin { await self.writeBack.persistUnheard(file.inode) }
    }

    // MARK: Space

    public func fallocate(
        _ inode: InodeID, handle: HandleID, mode: Int32, offset: Int, count: Int, reply: consuming Reply<Void>
    ) {
        guard let file = handles.file(handle) else { return reply.fail(.badHandle) }
        guard offset >= 0, count > 0, offset <= context.capabilities.maxObjectSize - count else {
            return reply.fail(.tooLarge, "larger than the store allows")
        }
        guard let allocation = Allocation(mode: mode) else { return reply.fail(.notSupported, "no such allocation") }
        let extent = Extent(offset: offset, count: count)
        switch attemptNow({ () throws(VFSError) in try allocation.apply(to: file.content, extent) }) {
        case .failure(let error): reply.fail(error)
        case .success(let change):
            if let change { changed(file.inode, change, clearSetID: false) }
            reply.send()
        }
    }

    public func lseek(
        _ inode: InodeID, handle: HandleID, offset: Int, whence: Int32, reply: consuming Reply<Int>
    ) {
        guard let file = handles.file(handle) else { return reply.fail(.badHandle) }
        let found: Int? =
            switch whence {
            case 3 where offset >= 0: file.content.data(from: offset)
            case 4 where offset >= 0: file.content.hole(from: offset)
            default: nil
            }
        if let found { reply.send(found) } else { reply.fail(.noData, "nothing there") }
    }

    public func copyFileRange(
        from: InodeID, fromHandle: HandleID, fromOffset: Int, to: InodeID, toHandle: HandleID, toOffset: Int,
        count: Int, reply: consuming Reply<Int>
    ) {
        guard let source = handles.file(fromHandle), let target = handles.file(toHandle) else {
            return reply.fail(.badHandle)
        }
        guard fromOffset == 0, toOffset == 0,
            let copy = WholeCopy(from: source, to: target, atMost: count, context, tree, commits)
        else {
            return reply.fail(.notSupported, "not a copy of a whole object")
        }
        changed(target.inode, copy.adopted, clearSetID: false)
        slow(reply, changing: [.inode(target.inode)]) { () async throws(VFSError) -> Int in try await copy.store() }
    }
}
