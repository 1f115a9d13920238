import CloudMountFilesystem
import CloudMountVFS
import MemoryProvider
import MountHarness

extension RandomWalk {
    func step() async throws {
        forget(all: false)
        switch number(0...99) {
        case 0..<12: try await create()
        case 12..<19: try await openExisting()
        case 19..<36: try await write()
        case 36..<46: try await read()
        case 46..<51: try await truncateOpen()
        case 51..<58: try await closeOne()
        case 58..<61: try await sync()
        case 61..<66: try await unlink()
        case 66..<73: try await rename()
        case 73..<78: try await mkdir()
        case 78..<81: try await rmdir()
        case 81..<83: try await symlink()
        case 83..<87: try await setattr()
        case 87..<89: try await xattr()
        case 89..<91: try await space()
        case 91..<93: try await seek()
        case 93..<95: try await copy()
        case 95..<97: try await list()
        case 97: try await truncatePath()
        default: try await externalChange()
        }
    }

    /// A name in some directory, and who it is.
    private func target() async throws -> (parent: ReferenceNode, inode: InodeID, name: String, path: String)? {
        let path = directory()
        guard let parent = reference.node(path) else { return nil }
        let name = pick(Self.names)
        return (parent, try await inode(path), name, "/" + (path + [name]).joined(separator: "/"))
    }

    /// Names compare by bytes, which a dictionary of strings does not: of two that look alike one is never used.
    private func isClash(_ parent: ReferenceNode, _ name: String) -> Bool {
        parent.children.keys.contains { $0 == name && !$0.utf8.elementsEqual(name.utf8) }
    }

    // MARK: Names

    private func create() async throws {
        guard let (parent, inode, name, path) = try await target(), !isClash(parent, name) else { return }
        let exclusive = number(0...3) == 0
        let truncates = number(0...3) == 0
        let existed = parent.children[name]
        if let existed, existed.kind == .symbolicLink { return }
        let expected = attemptHere { () throws(VFSError) in
            try reference.create(parent, name, exclusive: exclusive)
        }
        let flags: Int32 = 2 | (exclusive ? 0o200 : 0) | (truncates ? 0o1000 : 0)
        let real = await outcome { () async throws(VFSError) in try await fs.create(inode, name, flags: flags) }
        try agree("create \(path) flags \(String(flags, radix: 8))", real, expected)
        if case .success(let made) = real, case .success(let node) = expected {
            lookups.append((made.inode, 1))
            if truncates, existed != nil { node.resize(0) }
            if existed == nil { node.isStored = false }
            handles.append(OpenHandle(node: node, inode: made.inode, handle: made.handle, canWrite: true))
            try check(try await fs.getattr(made.inode), node, path)
        }
        if handles.count > 12 { try await closeOne() }
    }

    private func openExisting() async throws {
        guard let (parent, inode, name, path) = try await target(), let node = parent.children[name],
            node.kind == .regular, !isClash(parent, name)
        else { return }
        guard let found = try await fs.lookup(inode, name) else {
            throw Mismatch(description: "\(path) is not found")
        }
        lookups.append((found.inode, 1))
        try check(found, node, path)
        let flags: Int32 = pick([0, 0, 1, 2, 2, 0o1001, 0o1002])
        let handle = try await fs.open(found.inode, flags: flags)
        if flags & 0o1000 != 0 { node.resize(0) }
        log.append("open \(path) flags \(String(flags, radix: 8)) as \(handle)")
        handles.append(OpenHandle(node: node, inode: found.inode, handle: handle, canWrite: flags & 3 != 0))
        if handles.count > 12 { try await closeOne() }
    }

    private func unlink() async throws {
        guard let (parent, inode, name, path) = try await target(), !isClash(parent, name) else { return }
        let real = await outcome { () async throws(VFSError) in try await fs.unlink(inode, name) }
        try agree("unlink \(path)", real, attemptHere { () throws(VFSError) in try reference.unlink(parent, name) })
    }

    private func mkdir() async throws {
        guard let (parent, inode, name, path) = try await target(), !isClash(parent, name),
            path.split(separator: "/").count < 4
        else { return }
        let real = await outcome { () async throws(VFSError) in try await fs.mkdir(inode, name, mode: 0o750) }
        let expected = attemptHere { () throws(VFSError) in try reference.make(.directory, parent, name, 0o750) }
        try agree("mkdir \(path)", real, expected)
        if case .success(let made) = real { lookups.append((made, 1)) }
    }

    private func rmdir() async throws {
        guard let (parent, inode, name, path) = try await target(), !isClash(parent, name) else { return }
        let real = await outcome { () async throws(VFSError) in try await fs.rmdir(inode, name) }
        try agree("rmdir \(path)", real, attemptHere { () throws(VFSError) in try reference.rmdir(parent, name) })
    }

    private func symlink() async throws {
        guard let (parent, inode, name, path) = try await target(), !isClash(parent, name) else { return }
        let target = "../" + pick(Self.names)
        let real = await outcome { () async throws(VFSError) in try await fs.symlink(target, inode, name) }
        let expected = attemptHere { () throws(VFSError) in
            try reference.make(.symbolicLink, parent, name, 0o777)
        }
        try agree("symlink \(path)", real, expected)
        if case .success(let made) = real, case .success(let node) = expected {
            lookups.append((made, 1))
            node.target = target
        }
    }

    private func rename() async throws {
        guard let (parent, inode, name, path) = try await target(), !isClash(parent, name),
            let (newParent, newInode, newName, newPath) = try await target(), !isClash(newParent, newName),
            newPath.split(separator: "/").count < 5
        else { return }
        // The kernel has refused these before it asks.
        if let node = parent.children[name], node.holds(newParent) { return }
        if let old = newParent.children[newName], old.holds(parent) { return }
        let replace = number(0...4) != 0
        let what = "rename \(path) to \(newPath)"
        let real = await outcome { () async throws(VFSError) in
            try await fs.rename(inode, name, newInode, newName, flags: replace ? [] : .noReplace)
        }
        let expected = attemptHere { () throws(VFSError) in
            try reference.rename(parent, name, newParent, newName, replace: replace)
        }
        try agree(what, real, expected)
    }

    // MARK: Bytes

    private func some(_ matches: (OpenHandle) -> Bool = { _ in true }) -> OpenHandle? {
        let found = handles.filter(matches)
        return found.isEmpty ? nil : pick(found)
    }

    private func write() async throws {
        guard let open = some({ $0.canWrite }) else { return }
        let appends = number(0...2) == 0
        let offset = appends ? open.node.bytes.count : offset()
        let bytes = bytes()
        try await fs.write(open.inode, open.handle, offset, bytes)
        open.node.write(offset, bytes)
        log.append("write \(open.handle) (inode \(open.inode)) \(bytes.count) at \(offset)")
    }

    private func read() async throws {
        guard let open = some() else { return }
        let offset = offset()
        let count = number(1...span / 2)
        let got = try await fs.read(open.inode, open.handle, offset, count)
        let low = min(offset, open.node.bytes.count)
        let expected = Array(open.node.bytes[low..<min(open.node.bytes.count, offset + count)])
        try require(
            got == expected,
            "read \(open.handle) \(count) at \(offset) brought other bytes: \(difference(got, expected))")
        log.append("read \(open.handle) \(count) at \(offset)")
    }

    private func truncateOpen() async throws {
        guard let open = some({ $0.canWrite }) else { return }
        let size = offset()
        let attributes = try await fs.setattr(open.inode) { $0.size = size }
        open.node.resize(size)
        log.append("ftruncate \(open.handle) to \(size)")
        try require(attributes.size == size, "ftruncate left \(attributes.size) bytes, not \(size)")
    }

    private func truncatePath() async throws {
        guard let (parent, inode, name, path) = try await target(), let node = parent.children[name],
            node.kind == .regular, !isClash(parent, name)
        else { return }
        let size = offset()
        let found = try await self.inode(Array(path.split(separator: "/").map(String.init)))
        _ = inode
        try await fs.setattr(found) { $0.size = size }
        node.resize(size)
        log.append("truncate \(path) to \(size)")
        try check(try await fs.getattr(found), node, path)
    }

    func close(_ open: OpenHandle) async throws {
        try await fs.close(open.inode, open.handle)
        if open.canWrite, !open.node.isUnlinked { open.node.isStored = true }
    }

    func closeOne() async throws {
        guard !handles.isEmpty else { return }
        let open = handles.remove(at: number(0...handles.count - 1))
        try await close(open)
        log.append("close \(open.handle)")
        // One without a name goes with its last handle.
        if !open.node.isUnlinked { try check(try await fs.getattr(open.inode), open.node, "handle \(open.handle)") }
    }

    private func sync() async throws {
        guard let open = some() else { return }
        try await fs.fsync(open.inode, open.handle)
        if open.canWrite, !open.node.isUnlinked { open.node.isStored = true }
        log.append("fsync \(open.handle)")
    }

    private func space() async throws {
        guard let open = some({ $0.canWrite }) else { return }
        let offset = offset()
        let count = number(1...span / 2)
        switch number(0...2) {
        case 0:
            try await fs.fallocate(open.inode, open.handle, mode: 0, offset, count)
            if open.node.bytes.count < offset + count { open.node.resize(offset + count) }
            log.append("fallocate \(open.handle) \(count) at \(offset)")
        case 1:
            try await fs.fallocate(open.inode, open.handle, mode: 3, offset, count)
            open.node.zero(offset, count, extend: false)
            log.append("punch \(open.handle) \(count) at \(offset)")
        default:
            try await fs.fallocate(open.inode, open.handle, mode: 16, offset, count)
            open.node.zero(offset, count, extend: true)
            log.append("zero \(open.handle) \(count) at \(offset)")
        }
        open.node.modified = nil
        let size = try await fs.getattr(open.inode).size
        try require(size == open.node.bytes.count, "after fallocate \(size) bytes, not \(open.node.bytes.count)")
    }

    /// Holes may be told of less often than they are there, and data never less.
    private func seek() async throws {
        guard let open = some() else { return }
        let start = offset()
        let bytes = open.node.bytes
        let data = await outcome { () async throws(VFSError) in
            try await fs.lseek(open.inode, open.handle, start, whence: 3)
        }
        let firstData = start < bytes.count ? bytes[start...].firstIndex { $0 != 0 } : nil
        switch data {
        case .success(let found):
            try require(found >= start && found < bytes.count, "SEEK_DATA from \(start) found \(found)")
            if let firstData { try require(found <= firstData, "SEEK_DATA passed over data at \(firstData)") }
        case .failure(let error):
            try require(error.code == .noData && firstData == nil, "SEEK_DATA from \(start): \(error)")
        }
        let hole = await outcome { () async throws(VFSError) in
            try await fs.lseek(open.inode, open.handle, start, whence: 4)
        }
        switch hole {
        case .success(let found):
            try require(found >= start && found <= bytes.count, "SEEK_HOLE from \(start) found \(found)")
            try require(found == bytes.count || bytes[found] == 0, "SEEK_HOLE found data at \(found)")
        case .failure(let error):
            try require(error.code == .noData && start >= bytes.count, "SEEK_HOLE from \(start): \(error)")
        }
        log.append("lseek \(open.handle) from \(start)")
    }

    private func copy() async throws {
        guard let source = some(), let to = some({ $0.canWrite && $0.node !== source.node }) else { return }
        let from = number(0...1) == 0 ? 0 : offset()
        let at = number(0...1) == 0 ? from : offset()
        let real = await outcome { () async throws(VFSError) in
            try await fs.copyFileRange((source.inode, source.handle), from, (to.inode, to.handle), at, 1 << 30)
        }
        guard case .success(let count) = real else {
            log.append("copy_file_range \(source.handle) to \(to.handle): refused")
            return
        }
        try require(count > 0 && from + count <= source.node.bytes.count, "\(count) bytes were copied from \(from)")
        to.node.write(at, Array(source.node.bytes[from..<from + count]))
        log.append("copy_file_range \(source.handle) at \(from) to \(to.handle) at \(at): \(count)")
    }

    // MARK: Attributes

    private func setattr() async throws {
        guard let (parent, _, name, path) = try await target(), let node = parent.children[name], !isClash(parent, name)
        else { return }
        if node.kind == .directory, !keepsDirectoryAttributes { return }
        let inode = try await inode(path.split(separator: "/").map(String.init))
        let permissions = UInt32(number(0...0o777))
        let uid = UInt32(number(0...5))
        let modified = Timestamp(seconds: number(0...2_000_000_000), nanoseconds: number(0...999_999_999))
        let which = number(0...2)
        let attributes = try await fs.setattr(inode) { changes in
            if which == 0 { changes.permissions = permissions }
            if which == 1 { changes.uid = uid }
            if which == 2 { changes.modified = .at(modified) }
        }
        if which == 0 { node.permissions = permissions }
        if which == 1 { node.uid = uid }
        if which == 2, node.kind != .directory { node.modified = modified }
        log.append("setattr \(path) \(which)")
        try check(attributes, node, path)
    }

    private func xattr() async throws {
        guard let (parent, _, name, path) = try await target(), let node = parent.children[name], !isClash(parent, name)
        else { return }
        if node.kind == .directory, !keepsDirectoryAttributes { return }
        let inode = try await inode(path.split(separator: "/").map(String.init))
        let attribute = pick(["user.a", "user.b"])
        if number(0...2) == 0 {
            let real = await outcome { () async throws(VFSError) in try await fs.removexattr(inode, attribute) }
            let expected: Result<Void, VFSError> =
                node.xattrs.removeValue(forKey: attribute) == nil
                ? .failure(VFSError(.noAttribute, "")) : .success(())
            try agree("removexattr \(path) \(attribute)", real, expected)
        } else {
            let value = pattern(number(0...40), seed: random.next())
            try await fs.setxattr(inode, attribute, value)
            node.xattrs[attribute] = value
            log.append("setxattr \(path) \(attribute)")
        }
    }

    private func list() async throws {
        let path = directory()
        guard let node = reference.node(path) else { return }
        let inode = try await inode(path)
        let entries = try await fs.list(inode, plus: number(0...1) == 0, capacity: number(1...20))
        let names = Set(entries.map { FileNameBytes($0.name) })
        try require(
            names == Set(node.children.keys.map { FileNameBytes($0) }) && names.count == entries.count,
            "/\(path.joined(separator: "/")) lists \(entries.map(\.name).sorted()), not \(node.children.keys.sorted())")
        for entry in entries {
            guard let child = node.children[entry.name], let attributes = entry.attributes else { continue }
            try check(attributes, child, "\(path)/\(entry.name) (listed)")
        }
        log.append("list /\(path.joined(separator: "/"))")
    }

    // MARK: Others

    /// Somebody else puts, replaces or deletes an object that nobody here has open.
    private func externalChange() async throws {
        guard allowsExternal, let (parent, _, name, path) = try await target(), !isClash(parent, name) else { return }
        let key = ObjectKey(String(path.dropFirst()))
        let node = parent.children[name]
        if let node {
            guard node.kind == .regular, !handles.contains(where: { $0.node === node }) else { return }
        }
        if node != nil, number(0...2) == 0 {
            // The last object of a directory without a marker would take the directory along.
            guard parent.children.count > 1 || parent === reference.root else { return }
            _ = try await mount.store.delete([DeleteRequest(key)])
            parent.children[name] = nil
            node?.isUnlinked = true
            log.append("external delete of \(key)")
        } else {
            let bytes = Array(bytes().prefix(60_000))
            _ = try await mount.store.put(PutRequest(key: key), from: BytesSource(bytes))
            node?.isUnlinked = true
            let fresh = ReferenceNode(.regular, permissions: 0o644)
            fresh.bytes = bytes
            fresh.isStored = true
            parent.children[name] = fresh
            log.append("external put of \(key), \(bytes.count) bytes")
        }
    }
}

/// A call whose error is a value.
func attemptHere<Value>(_ work: () throws(VFSError) -> Value) -> Result<Value, VFSError> {
    do throws(VFSError) { return .success(try work()) } catch { return .failure(error) }
}
