{
  description = "Payments: the program, its tools, and the whole saga on this machine";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs = { self, nixpkgs }:
    let
      # nixos-26.05 is the last release with packages for x86_64-darwin
      systems = [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ];
      forEachSystem = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
      ofSystem = set: pkgs: set.${pkgs.stdenv.hostPlatform.system};

      # the same major version as in .nvmrc and in the Dockerfile
      node = pkgs: pkgs.nodejs_24;

      # The local stack takes its servers from PATH: postgres and initdb, redis-server, kafka-server-start.sh and
      # kafka-storage.sh. Kafka brings its Java. setpriv (util-linux) stops the servers when their holder is killed; Linux only.
      servers = pkgs: [ pkgs.postgresql_18 pkgs.redis pkgs.apacheKafka_4_1 ]
        ++ pkgs.lib.optional pkgs.stdenv.hostPlatform.isLinux pkgs.util-linux;

      manifest = builtins.fromJSON (builtins.readFile ./package.json);

      # package-lock.json holds a checksum for each package but no address, so that any registry can serve it.
      # importNpmLock needs addresses: these are the ones at which npm looks by default.
      lock =
        let
          written = builtins.fromJSON (builtins.readFile ./package-lock.json);
          addressed = path: module:
            let name = module.name or (builtins.head (builtins.match ".*node_modules/(.+)" path)); in
            if path == "" || module ? resolved then module
            else module // {
              resolved = "https://registry.npmjs.org/${name}/-/${baseNameOf name}-${module.version}.tgz";
            };
        in
        written // { packages = builtins.mapAttrs addressed written.packages; };

      # A build in the sources, with the packages of the lock file. No package needs its install script.
      inSources = pkgs: attributes: pkgs.stdenv.mkDerivation ({
        inherit (manifest) version;
        src = self;
        npmDeps = pkgs.importNpmLock { npmRoot = self; package = manifest; packageLock = lock; };
        npmRebuildFlags = [ "--ignore-scripts" ];
        nativeBuildInputs = [ (node pkgs) pkgs.importNpmLock.npmConfigHook pkgs.makeWrapper ];
        strictDeps = true;
        dontStrip = true;
      } // attributes);
    in
    {
      packages = forEachSystem (pkgs: {
        default = inSources pkgs {
          pname = "payments";
          buildPhase = ''
            runHook preBuild
            node scripts/build.mjs
            runHook postBuild
          '';
          # The program reads package.json, proto and sql two folders above its own file. npm's list of installed packages
          # would keep all their archives in the store.
          installPhase = ''
            runHook preInstall
            npm prune --omit=dev --no-save --offline --ignore-scripts
            rm -f node_modules/.package-lock.json
            folder=$out/lib/payments
            mkdir -p "$folder/src/local"
            cp -r dist proto sql node_modules "$folder"
            cp src/local/pom.xml "$folder/src/local"
            cp ${./package.json} "$folder/package.json"
            makeWrapper ${node pkgs}/bin/node "$out/bin/payments" --add-flags "$folder/dist/bin/payments.js"
            runHook postInstall
          '';
          doInstallCheck = true;
          installCheckPhase = ''
            test "$(NODE_DISABLE_COMPILE_CACHE=1 "$out/bin/payments" --version)" = ${manifest.version}
          '';
          meta = {
            inherit (manifest) description;
            mainProgram = "payments";
          };
        };
      });

      checks = forEachSystem (pkgs: {
        program = (ofSystem self.packages pkgs).default;
        code = inSources pkgs {
          pname = "payments-code";
          buildPhase = ''
            node scripts/check.mjs
            node_modules/.bin/eslint .
            node_modules/.bin/depcruise src --config .dependency-cruiser.cjs
          '';
          installPhase = "touch $out";
        };
      });

      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShell {
          packages = [ (node pkgs) pkgs.buf pkgs.grpcurl pkgs.kcat ] ++ servers pkgs;
        };
      });

      apps = forEachSystem (pkgs:
        let
          app = description: script: {
            type = "app";
            program = pkgs.lib.getExe (pkgs.writeShellApplication script);
            meta = { inherit description; };
          };
        in
        {
          default = app "The whole saga on this machine until Ctrl-C; its data are in .local of the current folder" {
            name = "payments-start";
            runtimeInputs = [ (ofSystem self.packages pkgs).default ] ++ servers pkgs;
            text = ''
              export LOCAL_FOLDER="''${LOCAL_FOLDER:-$PWD/.local}"
              exec payments start "$@"
            '';
          };
          test = app "The tests of the checkout in the current folder, with the servers of Nix" {
            name = "payments-test";
            runtimeInputs = [ (node pkgs) ] ++ servers pkgs;
            # npm installs and compiles in the checkout, because the copy in the Nix store is read-only
            text = ''
              if [ ! -f scripts/ensure.mjs ]; then
                echo "nix run .#test: start it in the folder of the checkout" >&2
                exit 2
              fi
              exec npm test -- "$@"
            '';
          };
        });
    };
}
