{
  description = "Payments: development tools, and the whole saga on this machine";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ];
      forEachSystem = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});

      # The local stack takes its servers from PATH: postgres and initdb, redis-server, kafka-server-start.sh and
      # kafka-storage.sh. setpriv (util-linux) stops them when their holder is killed; Linux only.
      servers = pkgs: [ pkgs.postgresql_18 pkgs.redis pkgs.apacheKafka_4_1 ]
        ++ pkgs.lib.optional pkgs.stdenv.hostPlatform.isLinux pkgs.util-linux;
    in
    {
      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShell {
          packages = [ pkgs.nodejs_24 pkgs.buf pkgs.grpcurl pkgs.kcat pkgs.jdk17_headless pkgs.maven ] ++ servers pkgs;
        };
      });

      apps = forEachSystem (pkgs: {
        default = {
          type = "app";
          program = pkgs.lib.getExe (pkgs.writeShellApplication {
            name = "payments-start";
            runtimeInputs = [ pkgs.nodejs_24 ] ++ servers pkgs;
            # npm installs and compiles in the checkout, because the copy in the Nix store is read-only
            text = ''
              if [ ! -f scripts/ensure.mjs ]; then
                echo "nix run: start it in the folder of the checkout" >&2
                exit 2
              fi
              exec npm start
            '';
          });
        };
      });
    };
}
