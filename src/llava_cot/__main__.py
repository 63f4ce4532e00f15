from llava_cot.cli.main import main

if __name__ == "__main__":  # a process that vLLM spawns imports this too
    main()
