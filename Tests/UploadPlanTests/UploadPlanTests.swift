import CloudMountCommit
import CloudMountStaging
import CloudMountVFS
import TestSeeds
import Testing

@Suite("UploadPlan")
struct UploadPlanTests {
    private func plan(
        _ image: FileImage, _ base: ObjectInfo?, _ capabilities: Capabilities = s3Capabilities(), _ note: String = ""
    ) throws -> Planned {
        let plan = try UploadPlan(image: image, base: base, capabilities: capabilities)
        check(plan, image, base, capabilities, note)
        return Planned(plan: plan, image: image)
    }

    private func new(_ size: Int) -> FileImage {
        var image = FileImage(size: 0, baseSize: 0)
        image.write(Extent(0, size))
        return image
    }

    @Test("Limits that no store can mean trap nothing")
    func impossibleLimits() throws {
        var capabilities = s3Capabilities()
        for size in [Int.max, 1 << 62, 0, -1] {
            capabilities.minPartSize = size
            capabilities.maxPartSize = size
            _ = try UploadPlan(image: new(4096), base: nil, capabilities: capabilities)
        }
    }

    @Test("Small files and empty ones go up whole")
    func small() throws {
        #expect(try plan(FileImage(size: 0, baseSize: 0), nil).isPut)
        #expect(try plan(new(4096), nil).isPut)
        #expect(try plan(new(16 * mebibyte), nil).isPut)
        #expect(try plan(edited(8 * mebibyte, [Extent(0, 1)]), object(8 * mebibyte)).uploadedBytes == 8 * mebibyte)
    }

    @Test("Large new files go up in parts of 8 MiB, which grow with the file")
    func large() throws {
        let plan = try plan(new(gibibyte), nil)
        #expect(plan.parts.count == 128)
        #expect(plan.fetches.isEmpty)
        #expect(try self.plan(new(500 * gibibyte), nil).parts.count <= 10_000)
        #expect(try self.plan(new(5 << 40), nil).parts.count <= 10_000)
    }

    @Test("Without multipart everything is one put, as large as the store takes")
    func withoutMultipart() throws {
        var capabilities = s3Capabilities()
        capabilities.multipart = false
        #expect(try plan(new(gibibyte), nil, capabilities).isPut)
        let error = #expect(throws: VFSError.self) { _ = try plan(new(6 * gibibyte), nil, capabilities) }
        #expect(error?.code == .tooLarge)
    }

    @Test("What is larger than any object is refused")
    func tooLarge() throws {
        let error = #expect(throws: VFSError.self) { _ = try plan(new((5 << 40) + 1), nil) }
        #expect(error?.code == .tooLarge)
    }

    @Test("A put limit below the usual threshold leads to parts")
    func smallPutLimit() throws {
        var capabilities = s3Capabilities()
        capabilities.maxPutSize = 6 * mebibyte
        #expect(try plan(new(12 * mebibyte), nil, capabilities).parts.count == 2)
    }

    @Test("Where a store wants several parts, one copy becomes several", arguments: [2, 3, 5])
    func leastParts(count: Int) throws {
        var capabilities = s3Capabilities()
        capabilities.minParts = count
        var image = FileImage(size: gibibyte, baseSize: gibibyte)
        image.truncate(to: 100 * mebibyte)
        let plan = try plan(image, object(gibibyte), capabilities)
        #expect(plan.uploadedBytes == 0)
        #expect(plan.copies.count == count)
        // Too short for so many: it travels.
        image.truncate(to: 5 * mebibyte)
        #expect(try self.plan(image, object(gibibyte), capabilities).isPut)
        let new = try self.plan(new(17 * mebibyte), nil, capabilities)
        #expect(count <= 3 ? new.parts.count == 3 : new.isPut)
    }

    @Test("One byte appended to 10 GiB sends one byte")
    func append() throws {
        var image = FileImage(size: 10 * gibibyte, baseSize: 10 * gibibyte)
        image.write(Extent(offset: 10 * gibibyte, count: 1))
        let plan = try plan(image, object(10 * gibibyte))
        #expect(plan.uploadedBytes == 1)
        #expect(plan.fetches.isEmpty)
        #expect(plan.parts.last?.extent.count == 1)
        #expect(plan.parts.count <= 21)
    }

    @Test("4 KiB changed within 10 GiB send one part of the smallest size")
    func oneEdit() throws {
        let edit = Extent(offset: 3 * gibibyte + 12345, count: 4096)
        let plan = try plan(edited(10 * gibibyte, [edit]), object(10 * gibibyte))
        #expect(plan.uploadedBytes == 5 * mebibyte)
        #expect(plan.fetches.reduce(0) { $0 + $1.count } == 5 * mebibyte - 4096)
    }

    @Test("An edit at the very start or end is widened inwards only")
    func edges() throws {
        let size = gibibyte
        let start = try plan(edited(size, [Extent(0, 10)]), object(size))
        #expect(start.uploadedBytes == 5 * mebibyte)
        let end = try plan(edited(size, [Extent(size - 10, size)]), object(size))
        #expect(end.uploadedBytes == 10)
    }

    @Test("A stored file that grows by terabytes of zeros has no more parts than there may be", arguments: [5_000, 64])
    func grownByTerabytes(largestPart: Int) throws {
        var capabilities = s3Capabilities()
        capabilities.maxObjectSize = 10_000_000_000_000
        capabilities.maxPartSize = largestPart * 1_000_000
        for size in [1 << 43, 9_000_000_000_000, 10_000_000_000_000] {
            var image = FileImage(size: gibibyte, baseSize: gibibyte)
            image.truncate(to: size)
            if largestPart < 1000 {
                let error = #expect(throws: VFSError.self) { _ = try plan(image, object(gibibyte), capabilities) }
                #expect(error?.code == .tooLarge)
            } else {
                #expect(try plan(image, object(gibibyte), capabilities).parts.count <= 10_000)
            }
        }
    }

    @Test("A large object that was cut is copied by the store")
    func truncate() throws {
        var image = FileImage(size: 10 * gibibyte, baseSize: 10 * gibibyte)
        image.truncate(to: 7 * gibibyte + 1)
        #expect(try plan(image, object(10 * gibibyte)).uploadedBytes == 0)
        image.truncate(to: 12 * mebibyte)
        #expect(try plan(image, object(10 * gibibyte)).uploadedBytes == 0)
        image.truncate(to: 100)
        #expect(try plan(image, object(10 * gibibyte)).isPut)
    }

    @Test("An unchanged object beyond the size of one copy is copied in parts")
    func unchanged() throws {
        let image = FileImage(size: 20 * gibibyte, baseSize: 20 * gibibyte)
        #expect(try plan(image, object(20 * gibibyte)).uploadedBytes == 0)
    }

    @Test("100 × 4 KiB in 256 MiB send at most 230 MB, 4 × 4 KiB in 1 GiB at most 25 MB", arguments: seeds(20, "W7"))
    func benchmark(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        func random(_ count: Int, _ size: Int) -> FileImage {
            edited(
                size,
                (0..<count).map { _ in
                    Extent(offset: Int.random(in: 0..<size / 4096, using: &generator) * 4096, count: 4096)
                })
        }
        let many = try plan(random(100, 256 * mebibyte), object(256 * mebibyte), s3Capabilities(), "seed \(seed)")
        #expect(many.uploadedBytes <= 230_000_000, "seed \(seed)")
        let few = try plan(random(4, gibibyte), object(gibibyte), s3Capabilities(), "seed \(seed)")
        #expect(few.uploadedBytes <= 25_000_000, "seed \(seed)")
    }

    @Test("Without range copies, or without the base's size, everything goes up")
    func withoutCopies() throws {
        let image = edited(gibibyte, [Extent(0, 10)])
        var capabilities = s3Capabilities()
        capabilities.rangeCopy = false
        #expect(try plan(image, object(gibibyte), capabilities).copies.isEmpty)
        #expect(try plan(image, object(gibibyte - 1)).copies.isEmpty)
        #expect(try plan(image, nil).copies.isEmpty)
    }

    @Test("Parts of one size: cells are copied or sent, never mixed")
    func equalParts() throws {
        var capabilities = s3Capabilities()
        capabilities.equalParts = true
        let plan = try plan(
            edited(gibibyte, [Extent(offset: 500 * mebibyte, count: 9)]), object(gibibyte), capabilities)
        #expect(plan.uploadedBytes <= 16 * mebibyte)
        #expect(try self.plan(new(100 * gibibyte), nil, capabilities).parts.count <= 10_000)
    }

    @Test("More edits than parts allow still make a legal plan")
    func crowded() throws {
        var capabilities = s3Capabilities()
        capabilities.maxParts = 100
        let size = 20 * gibibyte
        let image = edited(size, (0..<1500).map { Extent(offset: $0 * (size / 1500), count: 1) })
        #expect(try plan(image, object(size), capabilities).parts.count <= 100)
    }

    @Test("Random files at random stores get legal plans", arguments: seeds(300, "UploadPlan"))
    func random(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        func pick(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &generator) }
        var capabilities = s3Capabilities()
        capabilities.minPartSize = [1, 64 * kibibyte, 5 * mebibyte, 5 * mebibyte, 100 * mebibyte][pick(0...4)]
        capabilities.maxPartSize = max(
            capabilities.minPartSize, [5 * mebibyte, 50 * mebibyte, 5 * gibibyte][pick(0...2)])
        capabilities.maxParts = [1000, 10_000][pick(0...1)]
        capabilities.maxPutSize = [5 * mebibyte, 5 * gibibyte][pick(0...1)]
        capabilities.equalParts = pick(0...4) == 0
        capabilities.rangeCopy = pick(0...4) != 0
        let baseSize = pick(0...1) == 0 ? pick(0...100 * mebibyte) : pick(0...20 * gibibyte)
        var image = FileImage(size: baseSize, baseSize: baseSize)
        for _ in 0..<pick(0...[3, 30, 300][pick(0...2)]) {
            let offset = pick(0...max(1, image.size))
            let extent = Extent(offset: offset, count: pick(1...[10, 100_000, 30 * mebibyte][pick(0...2)]))
            switch pick(0...19) {
            case 0: image.truncate(to: offset)
            case 1: image.extend(to: image.size + pick(0...40 * mebibyte))
            case 2...4: image.zero(extent)
            default: image.write(extent)
            }
        }
        let base = baseSize == 0 ? nil : object(baseSize)
        do {
            let plan = try UploadPlan(image: image, base: base, capabilities: capabilities)
            check(plan, image, base, capabilities, "seed \(seed)")
        } catch {
            // Only what no number of the largest parts could hold may be refused.
            #expect(error.code == .tooLarge, "seed \(seed)")
            #expect(image.size > capabilities.maxParts * capabilities.maxPartSize, "seed \(seed)")
        }
    }
}
